"""The external programs that the runtime worker runs, one module for each.

Floor: above `records` and `spec`, beside `cgroups`; below all modules that know pods and containers.

- `oci_runtime`: runc or crun: command lines, state folder, errors
- `conmon`: the monitor of a container, which runs the OCI runtime and outlives this worker
- `container_log`: the file that conmon writes a container's output to, made and opened again
- `criu`: dumps through the OCI runtime, and errors in CRIU's logs
- `credential_helper`: docker-credential-NAME, for the image worker
- `command_lines`: processes found by their arguments
"""
