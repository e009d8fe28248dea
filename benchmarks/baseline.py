"""The program that anyone would write first, for comparison: uvicorn benchmarks.baseline:app."""

import os

import faiss
from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer


class Item(BaseModel):
    id: str
    text: str


model = SentenceTransformer(os.environ["BASELINE_MODEL"])
index = faiss.IndexFlatIP(model.get_sentence_embedding_dimension())
items: list[Item] = []
app = FastAPI()


@app.post("/index")
def add(new: list[Item]) -> int:
    index.add(model.encode([item.text for item in new], normalize_embeddings=True))
    items.extend(new)
    return len(items)


@app.get("/search")
def search(q: str, k: int = 10) -> list[dict[str, object]]:
    scores, rows = index.search(model.encode([q], normalize_embeddings=True), k)
    return [
        {"id": items[row].id, "score": float(score), "text": items[row].text}
        for score, row in zip(scores[0], rows[0], strict=True)
        if row >= 0
    ]
