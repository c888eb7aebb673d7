"""Finds on the host what confines a container: seccomp, AppArmor, SELinux.

Floor: above `context`; `spec` turns the results into parts of the OCI specification. For each container:

1. select: `spec.security_context.confinement` decides which seccomp profile linux.security_context requests;
2. read: `seccomp_files` reads that profile, `apparmor` loads or looks up its own, `selinux` makes the labels;
3. resolve: `spec.security_context.seccomp_rules` makes rules for this machine and this container's capabilities.

`profiles` runs these steps and holds their shared state; `seccomp_default.json` is the profile for containers of a node
that has none. The other modules do not import each other.
"""
