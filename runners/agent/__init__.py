"""The agent of a runner: dials the scheduler, takes jobs, runs each in a process of its own.

It knows gRPC and no framework; the job process knows a framework and no gRPC. `control` keeps the
lease, `attempt` runs one job from its inputs to its acknowledged end, `stream` delivers what
happens exactly once, and `guardian` sees to it that nothing outlives the agent.
"""
