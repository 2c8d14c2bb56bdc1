"""The verbs. A stage is `run(recipe) -> Artifact`; stages never call each other, they meet on disk."""
