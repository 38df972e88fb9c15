"""The door for clients of OpenAI's API: chat completions by API keys. A completion is a task without a chat."""
