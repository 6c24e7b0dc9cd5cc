"""A sentence encoder, from its Hugging Face folder to five audited engines."""
