"""The analysis as a user of DuckDB or Polars would write it. The same results, to the nanosecond."""
import os, subprocess, sys

from .tools import SITE

PYTHON = ["duckdb==2.0.0", "polars==2.1.0"]

QUANTILES = [0.5, 0.9, 0.95, 0.99, 0.999]
WINDOW_QUANTILES = [0.5, 0.95, 0.99]
# The bench run's own: actions that expect no broadcast, and those that fan out to two recipients.
NO_BROADCAST, FAN_OUT = "action % 4 = 0", "action % 4 = 1"


def install():
    if not os.path.isdir(os.path.join(SITE, "polars")):
        subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--target", SITE, *PYTHON], check=True)


def connect():
    install()
    sys.path.insert(0, SITE)
    import duckdb
    db = duckdb.connect()
    db.execute(f"set threads = {os.cpu_count()}")
    return db


def duckdb(run):
    """Whole run and 1 s windows by action and answer, fan-outs, lateness: as `retempo analyze` reports them."""
    db = connect()
    joined = f"""
      with sends as (select op, action, intended_ns, sent_ns from '{run}/sends-*.parquet'),
      answers as (select op, 0 as answer, received_ns from '{run}/replies-*.parquet'
                  union all select op, 1 as answer, received_ns from '{run}/broadcasts-*.parquet'),
      expected as (select s.*, e.answer from sends s, (values (0), (1)) e(answer) where e.answer = 0 or not ({NO_BROADCAST}))
      select e.op, e.action, e.answer, e.intended_ns // 1000000000 as w, a.received_ns - e.intended_ns as response, a.received_ns - e.sent_ns as service
      from expected e left join answers a on a.op = e.op and a.answer = e.answer"""
    whole_and_windows = db.execute(f"""
      select action, answer, w, count(response), count(*) - count(response), max(response),
        quantile_disc(response, {QUANTILES}), quantile_disc(service, {QUANTILES}) filter (true)
      from ({joined}) group by grouping sets ((action, answer), (action, answer, w))""").fetchall()
    fans = db.execute(f"""
      select action, quantile_disc(f, {QUANTILES}), quantile_disc(l, {QUANTILES}), quantile_disc(fs, {QUANTILES}), quantile_disc(ls, {QUANTILES}) from (
        select s.action, s.op, min(b.received_ns) - any_value(intended_ns) f, max(b.received_ns) - any_value(intended_ns) l,
          min(b.received_ns) - any_value(sent_ns) fs, max(b.received_ns) - any_value(sent_ns) ls
        from '{run}/sends-*.parquet' s join '{run}/broadcasts-*.parquet' b using (op) where {FAN_OUT} group by s.action, s.op) group by action""").fetchall()
    late = db.execute(f"select quantile_disc(sent_ns - intended_ns, {QUANTILES}) from '{run}/sends-*.parquet'").fetchone()[0]
    out = {"late": late}
    for action, answer, window, n, missing, highest, response, service in whole_and_windows:
        name = f"action{action}/{['reply', 'broadcast'][answer]}"
        if window is None:
            out[name] = [n, missing, highest, response, service]
        else:
            out[name, window] = [n, missing, highest, [response[i] for i in (0, 2, 3)]]
    for action, first, last, first_service, last_service in fans:
        out[f"action{action}/broadcast:first"] = [first, first_service]
        out[f"action{action}/broadcast:last"] = [last, last_service]
    return out


def polars(run):
    """Whole run and 1 s windows by action and answer; no fan-outs, no lateness, which flatters it."""
    sys.path.insert(0, SITE)
    import polars as pl
    sends = pl.scan_parquet(f"{run}/sends-*.parquet").select("op", "action", "intended_ns", "sent_ns")
    out = {}
    for answer, log in enumerate(("replies", "broadcasts")):
        answers = pl.scan_parquet(f"{run}/{log}-*.parquet").select("op", "received_ns")
        due = sends if answer == 0 else sends.filter(pl.col("action") % 4 != 0)
        joined = due.join(answers, on="op", how="left").select(
            "action", (pl.col("intended_ns") // 1_000_000_000).alias("w"),
            (pl.col("received_ns") - pl.col("intended_ns")).alias("response"), (pl.col("received_ns") - pl.col("sent_ns")).alias("service")).collect()
        counts = [pl.len().alias("due"), pl.col("response").count().alias("n"), pl.col("response").max().alias("max")]
        of = lambda name, quantiles: [pl.col(name).quantile(q, "nearest").alias(f"{name}{q}") for q in quantiles]
        whole = joined.group_by("action").agg(*counts, *of("response", QUANTILES), *of("service", QUANTILES))
        windows = joined.group_by("action", "w").agg(*counts, *of("response", WINDOW_QUANTILES))
        for row in whole.iter_rows(named=True):
            out[f"action{row['action']}/{['reply', 'broadcast'][answer]}"] = row["n"]
        for row in windows.iter_rows(named=True):
            out[f"action{row['action']}/{['reply', 'broadcast'][answer]}", row["w"]] = row["n"]
    return out
