"""Training of the Tiny-VLM family; see README.md."""
