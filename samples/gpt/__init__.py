"""A GPT-2 decoder, token by token against its float self."""
