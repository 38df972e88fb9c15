"""Files that users upload for messages: images and documents."""
