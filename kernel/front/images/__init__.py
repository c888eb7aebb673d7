"""The CRI's ImageService, and the repair of images. The modules stand above `facts` and `flows`, beside `stats`.

pulls                PullImage: equal pulls join, and one whose callers have left ends
load_flow            images from an archive
removal              RemoveImage
repair               images that lack layers: found, hidden, fetched again
pull_flow            one pull: resolve, verify, judge
make_image           the common part of pulls and loads: intent, layers side by side, record
admission            the policy for signatures, at a pull and when a container is made
credential_helpers   credentials from the administrator's helper programs
image_queries        ImageStatus, ListImages, StreamImages
fs_info              ImageFsInfo
layer_release        deletes layers and blobs that no image needs any more
image_records        how a pull changes records of images; pure
"""
