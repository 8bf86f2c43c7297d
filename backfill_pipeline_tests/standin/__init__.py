"""A local stand-in for the market-data providers: a real HTTP server on 127.0.0.1, for tests and benchmarks.

    from backfill_pipeline_tests.standin import StandIn

    with StandIn(now=datetime(2026, 8, 6, 12, tzinfo=UTC), requests_per_minute=5, window_seconds=0.5) as standin:
        standin.url, standin.port      # Polygon/Massive base URL (POLYGON_BASE_URL)
        standin.tradier_url            # url + "/v1" (TRADIER_BASE_URL); standin.binance_url is url
        standin.key                    # an accepted key: "test-key", for every provider
        standin.market.minutes("AAPL", window)           # the truth, as Bars: what a right client must end up with
        standin.market.days("AAPL", first, last)
        standin.fault("429", times=2)                    # the next two requests
        standin.requests, standin.provoked_429, standin.leaks, standin.reset()

As a process of its own (prints the URL on its first line; ends cleanly on SIGTERM, SIGINT or a closed stdin):
`python -m backfill_pipeline_tests.standin [--port 0] [--config file.json] [--end-with-stdin]`.
The file holds constructor options by name, times as ISO text, and `"market": {...}` and `"faults": [{...}]`.
`Remote(url)` steers one from another process with the same words: `fault`, `queue`, `clear_faults`, `requests`,
`counters`, `reset`, `set`, `change_market`; `with spawned(config) as remote:` starts one. Plain HTTP: see control.py.

CONSTRUCTOR: StandIn(market=None, *, port=0, **options); options can be changed later by `standin.set(**options)`.
  now                        aware datetime the stand-in believes in; None: the clock
  keys                       ("test-key",): accepted as `Authorization: Bearer KEY`; in a URL a key is a leak and 401
  requests_per_minute        None: no limit. Polygon's limit per key: never more than this many in any window
  window_seconds             60.0: how long that "minute" (Tradier's and Binance's too) lasts
  limit_body, retry_after    "error" | "empty"; False | True: how a provoked 429 looks
  history_years, too_old     None: all history. Older is "refused" (403) or "clipped" (silently)
  today                      "served" | "refused" (403 when the range reaches today, New York) | "clipped" (the range
                             ends yesterday; refused only when it begins today)
  not_entitled               ("/benzinga/",): paths with one of these texts in them are 403
  status                     "OK" | "DELAYED"
  empty                      "absent" | "null" | "list": how an answer without results looks
  page_limit                 None: at most this many base rows a page, whatever `limit` asks
  next_url_host              None: this server; else e.g. "https://api.massive.com"
  tradier_per_minute         120; tradier_depth: True enforces the documented days; tradier_empty: "null" |
                             "text" | "missing" | "data"; tradier_night: True adds 00:00-04:00 bars
  binance_weight_per_minute  6000 (a klines request weighs 2)
  latency_seconds            0.0: waited before every answer

MARKET: Market(seed=1, symbols=("AAPL", "MSFT", "SPY"), fillers=0, bare_share=0.0). Any symbol exists; `symbols` are
those a grouped answer lists, plus `fillers` made-up ones found nowhere else. Where nothing below says otherwise, bars
are those of SyntheticProvider(extended=True). `bare_share`: the share of minutes without vwap and trades.
  minutes(symbol, window, *, adjusted=False) -> Bars          as a client must end up with; stocks in XNYS sessions,
  days(symbol, first, last, *, adjusted=False) -> Bars        `X:...` and `...USDT` in 24/7 (UTC days); days labelled
                                                              by the start of day; volume = that of all minutes
  sessions(symbol) -> Sessions; grouped(day) -> {ticker: (open, high, low, close, volume, vwap, trades)}
  withhold(symbol, start, end)     the provider lost these minutes: the day's bar still counts them
  silence(symbol, start, end)      nobody traded: the day's bar agrees (Binance sends fillers of volume 0)
  restate(symbol, at, **columns)   one minute's new columns (open ... trades); the day's bar follows
  restate_day(symbol, day, **columns)
  unknown(symbol)                  no bars, 404 as a reference
  list_from(symbol, first=None, last=None)   nothing traded outside; list_date and delisted_utc in the reference
  rename(old, new, on)             the same instrument is called `new` from that day on
  split(symbol, ex_date, split_from, split_to, *, phantom=False, hidden=False)   raw prices change at ex_date unless it
                                   is a phantom; hidden: not told; repeated: a duplicate; 1, 1 is told and does nothing
  dividend(symbol, ex_date, cash_amount, *, hidden=False, currency="USD", **other fields)
  earnings(symbol, day, **fields)
  change(description)              all of these from JSON: {"withhold": [["AAPL", "2024-03-08T15:00Z", "..."]], ...}

FAULTS: fault(name, *, times=1, path="", nth=None, probability=None, seed=0, **options) hits the requests whose path
and query contain `path`: only the nth of them (from 1), or each with a probability, `times` times (None: for ever).
queue(*names) is an ordered queue: one request each; "ok" lets one pass. Names, for every provider in its own words:
  status     429 (options body="error"|"empty", retry_after=None|seconds) 429_empty 429_retry_after
             403_timeframe 403_today 403_entitled 401 400_order (also the bogus one, for valid dates) 400_parameter
             404 418 500 501 502 503 504
  transport  connection_reset stalled_headers stalled_body (seconds=30) truncated_gzip truncated_json truncated_body
             html_200 empty_200
  bars       empty_absent empty_null empty_list page_without_results next_url_other_host next_url_loop
             full_page_without_next_url duplicate_equal duplicate_conflicting outside_window other_symbol unsorted
             off_grid missing_vw_n exponent_numbers fractional_volume nan_price null_price negative_price
             inconsistent_price adjusted adjusted_page_2
  Tradier    tradier_quota tradier_depth tradier_token_expired tradier_datastore tradier_too_big tradier_single
             tradier_null tradier_text_null tradier_missing tradier_data_null tradier_null_prices tradier_unmatched
  Binance    binance_unfinished (a last row that is not over)
A fault of the bars that finds none (an empty page, another kind of path) lets the answer pass and is not used up.

A mistake of the stand-in itself is raised as RuntimeError when it ends: it never passes for a fault.
`write_flat_files(folder, market, symbols, days, kinds=("minute", "day"))` writes Massive's flat-file layout.
"""

from .faults import FAULT_NAMES, Fault
from .flat_files import write_flat_files
from .journal import Seen
from .market import Market
from .options import Options
from .remote import Remote, spawned
from .server import StandIn

__all__ = ["FAULT_NAMES", "Fault", "Market", "Options", "Remote", "Seen", "StandIn", "spawned", "write_flat_files"]
