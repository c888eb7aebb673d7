"""Turns `linux.security_context` of the CRI into parts of an OCI specification. Pure.

Floor: the lowest of `spec`, above `mapping` only. The modules:

- `user`: run_as_user and its like, as `process.user`.
- `capabilities`: capabilities and privileged, as `process.capabilities`.
- `confinement`: seccomp, apparmor and selinux_options, at their places in `process` and `linux`.
- `seccomp_profile`: a seccomp profile as files have it, checked.
- `seccomp_rules`: such a profile as `linux.seccomp`, for one machine and one container.
"""
