"""The door for clients of the AI SDK (useChat): questions and answers of chats in the form of its UI messages."""
