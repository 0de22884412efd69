"""The scheduler: owns jobs."""
