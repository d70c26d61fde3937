"""Collect models' answers within a budget, and write them as a pool; all requests go through `crowdselect.ask`.

instructions    the instructions to send
job             a whole run from instructions to a pool; `plan` before anything is sent
sharded         local models' answers generated on a Ray cluster
seal            the pool, and the manifest that describes it
"""
