"""A network as studies see it: its `layers`, where their `positions` lie, which to look at (`choice`), and how to
look without leaving a trace (`quiet`); on the way there `modules`, `tracing`, `cuts`, `bypass`, `evidence`, `survey`.
`images` are what it is to see, of anybody's data set.
"""
