"""The contract between a runner's agent and the job processes it starts.

Input comes as environment variables (`environment`), events leave and commands arrive as
length-delimited protobuf on inherited file descriptors (`framing`, `emitter`, `commands`), and
`entry` turns what a framework does into how the attempt ended. `history` keeps the epochs of a
training. Nothing here imports a framework or gRPC, and nothing starts a thread: a zygote forks with
all of it loaded.
"""
