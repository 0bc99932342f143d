"""The folder of a run: whose it is (`claim`, `lock`, `start`), what `remains` of an earlier one, its `files` as they
are read for pages, and which looks were `failures`.
"""
