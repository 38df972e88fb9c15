"""Chats, their messages, and presets."""
