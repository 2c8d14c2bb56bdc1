"""Reads, downloads, describes and exports image-text pairs: everything about a pair before a model sees it.

    source  columns  published  formats/   read any source as rows of `pairs`, `images` and `embeddings`
    download  store                        fetch the images of a URL list, resize and encode them
    image                                  decode, measure and hash image bytes
    image_urls  stats                      join stored images with their URLs; report on a download
    export/                                write the layouts of img2dataset and clip-retrieval

The sections of a recipe are in ingest_config.py, download_config.py and store_config.py.
"""
