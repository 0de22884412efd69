"""Starts a framework's job processes as the agent does, to find out whether it keeps the rules.

    python -m runners.framework_kit my_package.framework:MyFramework

The rules are listed in docs/frameworks.md. `kit.Kit` is the same for pytest. For runners, which speak to a
scheduler, there is runners.conformance instead.
"""
