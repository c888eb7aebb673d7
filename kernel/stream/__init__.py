"""The stream process: exec, attach and port-forward sessions between clients and open descriptors."""
