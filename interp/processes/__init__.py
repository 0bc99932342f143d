"""Work on many processes and threads: studies `share` images among processes, which `exchange` what they find;
`signals` and time limits; a `background` thread; workers of loaders; memory.
"""
