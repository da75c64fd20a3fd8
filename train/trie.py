"""Rows about one picture, packed into one sequence without repeating what they share.

The token sequences form a tree: a node sees its ancestors alone and stands at its depth, so every branch
gets the same hidden states as a row of its own. "Is there a dog ...?" and "Is there a cat ...?" share
three tokens, captions under one prompt share all of it."""

import numpy as np
import torch


def build(rows):
    """rows: [(prompt ids, answer ids)] -> ids, parents (-1: root), depths, [(node, target id)]."""
    ids, parents, depths, children, targets = [], [], [], {}, []
    for prompt, answer in rows:
        node, sequence = -1, prompt + answer
        for depth, token in enumerate(sequence):
            if depth >= len(prompt):
                targets.append((node, token))
            if depth == len(sequence) - 1:
                break
            at = children.get((node, token))
            if at is None:
                at = children[node, token] = len(ids)
                ids.append(token)
                parents.append(node)
                depths.append(depth)
            node = at
    return ids, parents, depths, targets


def ancestors(parents):
    """[T][T] bool: row i is True at i and at every ancestor of i."""
    seen = np.zeros((len(parents), len(parents)), bool)
    for i, parent in enumerate(parents):
        if parent >= 0:
            seen[i] = seen[parent]
        seen[i, i] = True
    return seen


def collate(cards, pad):
    """cards: one list of rows per picture -> ids [B][T], position [B][T], mask [B][1][T][T] (True: hidden), held [B][T]
    (True: no padding), where [N][2] (picture, node) and targets [N]."""
    trees = [build(rows) for rows in cards]
    t = max(len(tree[0]) for tree in trees)
    ids = torch.full((len(trees), t), pad)
    position = torch.zeros((len(trees), t), dtype=torch.long)
    held = torch.arange(t) < torch.tensor([len(tree[0]) for tree in trees])[:, None]
    seen = np.broadcast_to(np.eye(t, dtype=bool), (len(trees), t, t)).copy()
    where, targets = [], []
    for i, (tokens, parents, depths, wanted) in enumerate(trees):
        n = len(tokens)
        ids[i, :n] = torch.tensor(tokens)
        position[i, :n] = torch.tensor(depths)
        seen[i, :n, :n] = ancestors(parents)
        where += [(i, node) for node, _ in wanted]
        targets += [token for _, token in wanted]
    return ids, position, torch.from_numpy(~seen)[:, None], held, torch.tensor(where), torch.tensor(targets)
