"""Documents of other programs that the front reads by itself, and the metric families that it writes.

- image_config: the configuration of an image (OCI image-spec, config.md)
- manifest_chain: indexes and manifests between an image's name and its layers (image-index.md, manifest.md)
- checkpoint_descriptions: the description inside a checkpoint archive
- metric_families: the metrics of pods and containers, named as cAdvisor names them

The floor: pure, beside `kernel.front.requests`; only contracts, formats and ids are below it.
"""
