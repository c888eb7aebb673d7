"""The network worker's records of pods: on disk, in memory, and in plugins' own files.

attachments     the configuration that plugins were run with, one file per sandbox
claims          host ports and addresses, each of which only one pod may have
lease           the leases of the plugin host-local

Floor: above `documents`; knows neither plugins' processes nor the flows of pods.
"""
