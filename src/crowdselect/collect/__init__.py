"""Ask models for answers, once and within a budget, and seal them as a pool; all asking goes through `crowdselect.ask`.

instructions    what to ask
job             the whole way from instructions to a pool; `plan` before anything is sent
sharded         local models' answers made on a Ray cluster
seal            the pool, and the manifest that says what is in it
"""
