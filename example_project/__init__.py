"""A small host project: appointments whose reminders are answered by SMS."""
