"""Thin helpers over the host: system calls, external programs, time and tasks. No policy."""
