"""Host projects that make it hard: each is a settings module, with what it needs beside it."""
