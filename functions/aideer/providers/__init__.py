"""The protocols of DashScope and WeChat."""
