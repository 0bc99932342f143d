"""Checkpoints, and runs that go on from them: `checkpoint` writes and reads them whole, `find` finds their files,
`earlier` is the run that a command resumes, `inherited` which of its settings stay, `schedule` how its rates go on.
Weights that anybody has saved: `weights_file` reads them, `foreign_weights` matches them to a network.
"""
