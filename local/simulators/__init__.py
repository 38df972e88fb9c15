"""The simulated DashScope and the simulated WeChat."""
