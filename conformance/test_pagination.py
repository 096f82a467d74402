"""Pages over many keys, aliases and tags: nothing twice, nothing missing, also while more are made."""
import concurrent.futures
import threading

import pytest

from harness.expect import expect_error
from harness.wire import Wire

KEYS, THREADS = 2500, 4
CROWDED = "ap-south-1"  # a Region of its own, so that nothing else adds keys


@pytest.fixture(scope="module")
def crowd(wire):
    """A client in a Region with KEYS keys, and their ids."""
    client = wire.alter(region=CROWDED)

    def make(n):
        return [client.ok("CreateKey")["KeyMetadata"]["KeyId"] for _ in range(n)]
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        made = [key for part in pool.map(make, [KEYS // THREADS] * THREADS) for key in part]
    assert len(set(made)) == KEYS
    return client, made


def pages(client, operation, member, **values):
    """All pages of a list, walked by hand."""
    got, marker = [], {}
    while True:
        page = client.ok(operation, **values, **marker)
        got.append(page[member])
        assert page["Truncated"] == ("NextMarker" in page)
        if not page["Truncated"]:
            return got
        marker = {"Marker": page["NextMarker"]}


def test_by_hand(crowd, tally):
    client, made = crowd
    for limit in (None, 1000, 999, 250, 37):
        got = pages(client, "ListKeys", "Keys", **({"Limit": limit} if limit else {}))
        assert [len(p) for p in got[:-1]] == [limit or 100] * (len(got) - 1)
        keys = [k["KeyId"] for p in got for k in p]
        assert sorted(keys) == sorted(made)
        assert all(k["KeyArn"] == f"arn:aws:kms:{CROWDED}:111122223333:key/{k['KeyId']}" for p in got for k in p)
    tally(5 * KEYS)


def test_paginator(crowd, shared, tally):
    _, made = crowd
    paginator = shared.boto3(region=CROWDED).get_paginator("list_keys")
    for size in (None, 700):
        keys = [k["KeyId"] for page in paginator.paginate(PaginationConfig={"PageSize": size}) for k in page["Keys"]]
        assert sorted(keys) == sorted(made)
    tally(2 * KEYS)


def test_while_keys_are_made(crowd, tally):
    """Whoever was there at the start is listed exactly once, however many come in between."""
    client, made = crowd
    done, added = threading.Event(), []

    def make():
        mine = Wire(client.server, client.signing)
        while not done.is_set():
            added.append(mine.ok("CreateKey")["KeyMetadata"]["KeyId"])
    threads = [threading.Thread(target=make) for _ in range(3)]
    for t in threads:
        t.start()
    try:
        for limit in (10, 50, 100):
            before = set(made) | set(added)
            keys = [k["KeyId"] for p in pages(client, "ListKeys", "Keys", Limit=limit) for k in p]
            assert len(keys) == len(set(keys)), "a key was listed twice"
            assert before <= set(keys), "a key was missed"
    finally:
        done.set()
        for t in threads:
            t.join()
    assert added, "nothing was made meanwhile"
    assert {k["KeyId"] for p in pages(client, "ListKeys", "Keys", Limit=1000) for k in p} == set(made) | set(added)
    made += added
    tally(3 * KEYS)


def test_aliases(crowd, tally):
    client, made = crowd
    names = {f"alias/page/{i:03}": made[i % 6] for i in range(230)}
    for name, key in names.items():
        client.ok("CreateAlias", AliasName=name, TargetKeyId=key)
    for limit, first in ((None, 50), (100, 100), (7, 7)):
        got = pages(client, "ListAliases", "Aliases", **({"Limit": limit} if limit else {}))
        assert len(got[0]) == first
        assert {a["AliasName"]: a["TargetKeyId"] for p in got for a in p} == names and sum(map(len, got)) == len(names)
    for key in made[:3]:
        got = [a["AliasName"] for p in pages(client, "ListAliases", "Aliases", KeyId=key, Limit=9) for a in p]
        assert sorted(got) == [n for n, k in names.items() if k == key]
    tally(6 * len(names))


def test_tags(crowd, tally):
    client, made = crowd
    tags = {f"key {i:02}": f"value {i}" for i in range(50)}
    client.ok("TagResource", KeyId=made[0], Tags=[{"TagKey": k, "TagValue": v} for k, v in tags.items()])
    for limit in (None, 50, 10, 7):
        got = pages(client, "ListResourceTags", "Tags", KeyId=made[0], **({"Limit": limit} if limit else {}))
        assert {t["TagKey"]: t["TagValue"] for p in got for t in p} == tags and sum(map(len, got)) == 50
    tally(200)


def test_markers_of_others(crowd, wire, other, tally):
    """A marker holds for the operation, account and Region that made it, and is not to be made by hand."""
    client, made = crowd
    marker = client.ok("ListKeys", Limit=10)["NextMarker"]
    assert made[0] not in marker
    tried = [(client, "ListAliases", {}), (wire, "ListKeys", {}), (other.alter(region=CROWDED), "ListKeys", {}), (client, "ListResourceTags", {"KeyId": made[0]})]
    for who, operation, values in tried:
        expect_error(who.call(operation, values | {"Marker": marker}), "InvalidMarkerException…")
    changed = ("A" if marker[20] != "A" else "B").join([marker[:20], marker[21:]])
    for wrong in (changed, marker + "A", marker[:-4], made[0], "x" * 1024):
        expect_error(client.call("ListKeys", Marker=wrong), "InvalidMarkerException…")
    tally(len(tried) + 5)
