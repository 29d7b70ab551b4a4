"""Test Send, one real request with a documented example, and the advice that follows from it."""
