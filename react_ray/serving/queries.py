"""Turns the queries of a request into vectors, and says which side of the pairs they are compared with."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Awaitable, Callable, Sequence

import numpy as np

from react_ray.errors import ReactRayError
from react_ray.index.config import Key
from react_ray.search.database import BOTH, unit
from react_ray.serving.api import Query, Term
from react_ray.serving.encoder import Encoder
from react_ray.serving.refusal import Refused
from react_ray.serving.view import View

Fetch = Callable[[str], Awaitable[bytes]]


class Queries:
    """The queries of one request."""

    def __init__(self, view: View, encoder: Encoder, fetch: Fetch | None) -> None:
        """fetch: the bytes of an image at a URL; None = this server fetches nothing."""
        self.view, self.encoder, self.fetch = view, encoder, fetch

    async def vectors(self, queries: Sequence[Query], where: Sequence[str]) -> np.ndarray:
        """float32 [Q, D], unit norm. where: the field of each query, for messages."""
        terms: list[tuple[Term, str]] = []
        for query, at in zip(queries, where, strict=True):
            if query.sum is None:
                terms.append((query, at))
            else:
                terms += [(term, f"{at}.sum.{number}") for number, term in enumerate(query.sum)]
        vectors_TD = await self._terms(terms)
        out, first = [], 0
        for query, at in zip(queries, where, strict=True):
            if query.sum is None:
                out.append(vectors_TD[first])
                first += 1
                continue
            weights = np.array([term.weight for term in query.sum], np.float32)
            total_D = weights @ vectors_TD[first : first + len(weights)]
            first += len(weights)
            norm = float(np.linalg.norm(total_D))
            if norm < 1e-6:
                raise Refused("the weighted sum is null; change a weight", code="bad_query", field=f"{at}.sum")
            out.append(total_D / norm)
        return np.stack(out)

    def keys(self, queries: Sequence[Query], key: str) -> tuple[Key, ...]:
        """Those that are compared; "" = images if all queries are images, otherwise the first that the recipe names."""
        plans, database = self.view.plans, self.view.database
        if not key and "image" in plans and all(self._is_image(query) for query in queries):
            return ("image",)
        return database.keys_of(BOTH if key == BOTH else key)

    def _is_image(self, query: Query) -> bool:
        if query.sum is not None:
            wanted = [term for term in query.sum if term.weight > 0]
            return bool(wanted) and all(self._shows(term) for term in wanted)
        return self._shows(query)

    def _shows(self, term: Term) -> bool:
        return term.image is not None or term.url is not None or (term.pair_id is not None and term.side != "text")

    async def _terms(self, terms: Sequence[tuple[Term, str]]) -> np.ndarray:
        """float32 [T, D]"""
        dim = self.view.database.embeddings.facts.dim
        out_TD = np.empty((len(terms), dim), np.float32)
        texts = {row: (term.text, at) for row, (term, at) in enumerate(terms) if term.text is not None}
        for text, at in texts.values():
            if not text.strip():
                raise Refused("the text is empty; write what to search for", code="bad_query", field=f"{at}.text")
        if texts:
            out_TD[list(texts)] = await self.encoder.texts([text for text, _ in texts.values()])
        for row, (term, at) in enumerate(terms):
            if term.image is not None or term.url is not None:
                out_TD[row] = await self._image(term, at)
            elif term.embedding is not None:
                try:
                    out_TD[row] = unit(term.embedding, dim)
                except ReactRayError as error:
                    raise Refused(str(error), code="bad_query", field=f"{at}.embedding") from error
            elif term.pair_id is not None:
                out_TD[row] = await asyncio.to_thread(self._pair, term, at)
        if len(bad := np.flatnonzero(~np.isfinite(out_TD).all(axis=1))):
            raise Refused("the model gives no vector for this query; ask otherwise", field=terms[int(bad[0])][1])
        return out_TD

    async def _image(self, term: Term, at: str) -> np.ndarray:
        if term.url is not None:
            if self.fetch is None:
                said = "this server fetches no URLs; send the image itself, or set serve.fetch_urls"
                raise Refused(said, code="bad_query", field=f"{at}.url")
            data = await self.fetch(term.url)
        else:
            assert term.image is not None
            try:
                data = base64.b64decode(term.image.partition("base64,")[2] or term.image, validate=True)
            except (binascii.Error, ValueError) as error:
                said = f"the image is not base64 ({error}); encode its bytes"
                raise Refused(said, code="bad_query", field=f"{at}.image") from error
        try:
            [vector_D] = await self.encoder.images([data])
        except ReactRayError as error:
            said = str(error).replace("image 1 of the query", "the image")
            raise Refused(said, code="bad_query", field=f"{at}.{'url' if term.url else 'image'}") from error
        return vector_D

    def _pair(self, term: Term, at: str) -> np.ndarray:
        assert term.pair_id is not None
        try:
            ids = self.view.records.known([term.pair_id])
        except ReactRayError as error:
            raise Refused(str(error), status=404, code="not_found", field=f"{at}.pair_id") from error
        sides: list[Key] = ["image", "text"] if term.side == "" else ["image" if term.side == "image" else "text"]
        for side in sides:
            [vector_D] = self.view.records.vectors(ids, side)
            if np.isfinite(vector_D).all():
                return np.asarray(vector_D, np.float32)
        said = f"pair {term.pair_id} has no vector of its {' or '.join(sides)}; take another pair or side"
        raise Refused(said, code="bad_query", field=f"{at}.pair_id")
