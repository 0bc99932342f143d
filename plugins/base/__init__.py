"""What all studies are made of: a `Study` with its `settings`, whose results are kept (`keeping`) and shown (`sinks`),
that looks at an `epoch`; and the `Plugin`, which Lightning calls in a `training`.
"""

from plugins.base.drawing import Drawing
from plugins.base.plugin import Plugin
from plugins.base.settings import setting, spread_setting
from plugins.base.training import ends, network, probe_of

__all__ = ["Drawing", "Plugin", "ends", "network", "probe_of", "setting", "spread_setting"]
