"""The merge law in pure Python: the specification that the SQL is held to. See docs/merge-law.md.

merge (stored.py) makes rows of facts, in any order; read (view.py) says what a person sees of the rows.
"""

from schemas.law.stored import Stored, join, merge
from schemas.law.view import State, read

__all__ = ["State", "Stored", "join", "merge", "read"]
