"""The life of a job as pure functions: no clock, no database, no network, no protobuf.

`model` has the words, `table` the whole machine as one literal table, `machine` the function
that applies an event, `placement` what fits on a runner, `diagram` draws the table.
"""
