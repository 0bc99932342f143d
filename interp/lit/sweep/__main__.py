"""Write the page of a sweep again: python -m interp.lit.sweep FOLDER"""

import sys

from interp.lit.sweep.gather import main

main(sys.argv[1:])
