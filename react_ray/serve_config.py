"""ServeConfig: where `react-ray serve` listens, what a request may ask for, and how wide it answers."""

from __future__ import annotations

from react_ray.section import Section, speed


class ServeConfig(Section):
    host: str = speed("127.0.0.1", "address to listen at; another than loopback needs api_key_env, or --insecure")
    port: int = speed(8000, "port to listen at; 0 = one that is free", ge=0, le=65535)
    api_key_env: str = speed(
        "", "environment variable with the key that each request must show; empty = no key is asked for"
    )
    cors_origins: list[str] = speed([], "origins of other web pages that may call the API, such as https://example.org")
    max_k: int = speed(10_000, "most hits that one query may ask for", ge=1)
    max_batch: int = speed(256, "most queries of one request", ge=1)
    max_body_mb: float = speed(16, "largest body of a request, MB", gt=0)
    max_in_flight: int = speed(
        256, "requests that are answered at once by a process; more are told to come again", ge=1
    )
    timeout_s: float = speed(30, "time of one request, s; one may ask for less", gt=0)
    group_memory_gb: float = speed(
        8, "memory of one group of shards, GB: the index is cut into groups, each of which a process opens", gt=0
    )
    min_replicas: int = speed(1, "fewest processes of each group", ge=1)
    max_replicas: int = speed(1, "most processes of each group; more start while requests wait", ge=1)
    upscale_delay_s: float = speed(30, "time of load after which another process of a group starts, s", ge=0)
    downscale_delay_s: float = speed(600, "time without load after which a process of a group ends, s", ge=0)
    ingress_replicas: int = speed(1, "fewest processes that take requests, embed queries and merge answers", ge=1)
    max_ingress_replicas: int = speed(1, "most of these; more start while requests wait", ge=1)
    reload_s: float = speed(5, "time between two looks for deleted pairs, additions and new indexes, s", gt=0)
    fetch_urls: bool = speed(
        False, "fetch the image of a query that is a URL; addresses of private networks stay refused"
    )
    image_hosts: list[str] = speed(
        [], "hosts from which the page may show images that the database does not hold, such as https://example.org"
    )

    @property
    def most_ingress_replicas(self) -> int:
        """As most_replicas, of the processes that take requests."""
        return max(self.ingress_replicas, self.max_ingress_replicas)

    @property
    def most_replicas(self) -> int:
        """The most processes of each group; max_replicas below min_replicas says nothing."""
        return max(self.min_replicas, self.max_replicas)
