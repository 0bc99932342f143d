"""Studies of a network: one Lightning callback a file, each configured by conf/plugin/<name>.yaml."""
