"""The commands. Each function gets the context and the parsed options, and returns the exit status.

- run: `run`.
- pods: `pods`, `stop`, `rm`.
- containers: `ps`, `exec`, `inspect`, `logs`; streaming: `exec -i`, `exec -t`, `attach`; port_forward: `port-forward`.
- images: `images`, `pull`, `image load`, `image rm`; image_save: `image save`, in the formats of image_archive;
  image_store: `image check`, `image wipe`.
- workers: `status`, `workers`, `restart`, `reload`, `shutdown`; top: `top`; daemon: `daemon`, `config`, `version`.
- net: `net`; doctor: `doctor`.
"""
