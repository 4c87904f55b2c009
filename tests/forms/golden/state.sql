BEGIN TRANSACTION;
CREATE TABLE answers (
  run_id TEXT,
  name TEXT,
  value TEXT NOT NULL,                -- JSON
  at DOUBLE PRECISION NOT NULL,
  PRIMARY KEY (run_id, name)
);
INSERT INTO "answers" VALUES('01M8JB53Y429RYD6X57MW7C91C','coverage synced before','[["item","total","done"],[["o/r0",1,1],["o/r1",1,1],["o/r2",1,1]]]',1.7959120130266268253e+09);
INSERT INTO "answers" VALUES('01M8JB57B6NVV6KR9BMYMSNEGA','coverage synced before','[["item","total","done"],[["o/r0",1,1],["o/r1",1,1],["o/r2",1,1]]]',1.79591201641480350493e+09);
CREATE TABLE backfill_version (
  version INTEGER PRIMARY KEY,
  identity TEXT NOT NULL              -- of this state: its workers are known by it
);
INSERT INTO "backfill_version" VALUES(1,'6481b74c');
CREATE TABLE blocks (
  run_id TEXT,
  stage INTEGER,
  number INTEGER,
  body BLOB NOT NULL,              -- see runner.planning.event_blocks
  PRIMARY KEY (run_id, stage, number)
);
INSERT INTO "blocks" VALUES('01M8JB53Y429RYD6X57MW7C91C',1,0,X'780153CAD72F3250E2AC562A4A2DC857B25202736BB940B421AAB0A11244D80855D848A9160082E412D2');
INSERT INTO "blocks" VALUES('01M8JB57B6NVV6KR9BMYMSNEGA',1,0,X'780153CAD72F3254E2AC562A4A2DC857B25202736B0145D10640');
INSERT INTO "blocks" VALUES('01M8JB61A81JM9XNMJM74KMD74',1,0,X'780153CAD72F3250E2AC562A4A2DC857B25202736BB940B421AAB0A1522D001BFE0C87');
CREATE TABLE chunks (
  run_id TEXT,
  number INTEGER,
  stage INTEGER NOT NULL,
  batch INTEGER NOT NULL,
  operation TEXT NOT NULL,
  event TEXT NOT NULL,
  first BIGINT NOT NULL,              -- positions of its events
  last BIGINT NOT NULL,
  seed TEXT NOT NULL,                 -- gives the internal ids
  state TEXT NOT NULL,                -- sending | accepted | requeued
  resent BOOLEAN NOT NULL DEFAULT FALSE,
  sent_at DOUBLE PRECISION NOT NULL,
  base DOUBLE PRECISION NOT NULL,     -- what the times of scheduled events count from
  ids TEXT,                           -- JSON, position -> internal id: those the seed does not give
  -- Of its events, how many have come to which end: counted here, so that nobody has to count the
  -- outcomes of a million events.
  completed INTEGER NOT NULL DEFAULT 0,
  failed INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (run_id, number)
);
INSERT INTO "chunks" VALUES('01M8JB53Y429RYD6X57MW7C91C',0,1,1,'sync','app/sync',0,2,'1795912013028,ulzwGdSiHl/YSw==','accepted',0,1.79591201302864193921e+09,1.7959120129747657776e+09,NULL,2,1);
INSERT INTO "chunks" VALUES('01M8JB57B6NVV6KR9BMYMSNEGA',0,1,1,'sync','app/sync',0,0,'1795912016422,3uSuDtfIW9ksvQ==','accepted',0,1.79591201642215800285e+09,1.79591201637631535533e+09,NULL,0,1);
INSERT INTO "chunks" VALUES('01M8JB61A81JM9XNMJM74KMD74',0,1,1,'sync','app/sync',0,1,'1795912043437,srymz/jHxNjnZw==','accepted',0,1.7959120434373779297e+09,1.79591204341020178793e+09,NULL,0,0);
CREATE TABLE drives (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  run_id TEXT NOT NULL,
  since DOUBLE PRECISION NOT NULL,
  until DOUBLE PRECISION NOT NULL
);
INSERT INTO "drives" VALUES(1,'01M8JB53Y429RYD6X57MW7C91C',1.79591201297630620003e+09,1.79591201313427829746e+09);
INSERT INTO "drives" VALUES(2,'01M8JB57B6NVV6KR9BMYMSNEGA',1.79591201638303589816e+09,1.79591201650246405597e+09);
INSERT INTO "drives" VALUES(3,'01M8JB61A81JM9XNMJM74KMD74',1.79591204341201162342e+09,1.79591204347587847706e+09);
CREATE TABLE holds (
  address TEXT PRIMARY KEY,           -- see Target.address
  target TEXT NOT NULL,               -- as it is shown
  reason TEXT NOT NULL,
  holder TEXT NOT NULL,               -- by whom, for people
  since DOUBLE PRECISION NOT NULL,
  until DOUBLE PRECISION              -- missing: until it is taken back
);
CREATE TABLE jobs (
  run_id TEXT,
  job_id TEXT,
  position BIGINT,                    -- a function that takes events in batches has several
  function TEXT NOT NULL,
  status TEXT NOT NULL,
  message TEXT,
  url TEXT,
  since DOUBLE PRECISION NOT NULL,    -- when the status was seen first
  PRIMARY KEY (run_id, job_id, position)
);
INSERT INTO "jobs" VALUES('01M8JB53Y429RYD6X57MW7C91C','01M8JB557D8PWJ8Z6DF2XHZP9H',0,'7895d575-681a-5157-9c0f-34cb5933941c','Completed',NULL,'http://127.0.0.1:8288/run?runID=01M8JB557D8PWJ8Z6DF2XHZP9H',1.795911e+09);
INSERT INTO "jobs" VALUES('01M8JB53Y429RYD6X57MW7C91C','01M8JB557D5ED4H5BX0HHG8ECD',1,'7895d575-681a-5157-9c0f-34cb5933941c','Failed','ValueError: o/r1 is broken','http://127.0.0.1:8288/run?runID=01M8JB557D5ED4H5BX0HHG8ECD',1.795911e+09);
INSERT INTO "jobs" VALUES('01M8JB53Y429RYD6X57MW7C91C','01M8JB557DHW2QZCEFJX09A2BS',2,'7895d575-681a-5157-9c0f-34cb5933941c','Completed',NULL,'http://127.0.0.1:8288/run?runID=01M8JB557DHW2QZCEFJX09A2BS',1.795911e+09);
INSERT INTO "jobs" VALUES('01M8JB57B6NVV6KR9BMYMSNEGA','01M8JB58HEH89XW6T50XX3XB9B',0,'7895d575-681a-5157-9c0f-34cb5933941c','Failed','ValueError: o/r1 is broken','http://127.0.0.1:8288/run?runID=01M8JB58HEH89XW6T50XX3XB9B',1.795911e+09);
CREATE TABLE leases (
  name TEXT PRIMARY KEY,              -- a plan and an address
  token TEXT NOT NULL,
  run_id TEXT NOT NULL,
  holder TEXT NOT NULL,               -- who, for people
  machine TEXT NOT NULL,
  pid INTEGER NOT NULL,
  taken_at DOUBLE PRECISION NOT NULL,
  expires_at DOUBLE PRECISION NOT NULL,
  workers BOOLEAN NOT NULL            -- the run is left to the workers
);
CREATE TABLE notes (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  run_id TEXT NOT NULL,
  at DOUBLE PRECISION NOT NULL,
  message TEXT NOT NULL,
  who TEXT                            -- of a request, for people; missing: the run notes it
);
INSERT INTO "notes" VALUES(1,'01M8JB53Y429RYD6X57MW7C91C',1.7959120163820226192e+09,'retried as run 01M8JB57B6NVV6KR9BMYMSNEGA','demo@host (process 9604)');
CREATE TABLE notices (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  run_id TEXT NOT NULL,
  event TEXT NOT NULL,
  occasion TEXT NOT NULL,             -- which of those: a run may be held, and end, several times
  hook INTEGER NOT NULL,              -- of the run's `notify`
  body TEXT NOT NULL,                 -- JSON
  at DOUBLE PRECISION NOT NULL,
  due DOUBLE PRECISION NOT NULL,      -- when it is tried, by the state's clock
  tries INTEGER NOT NULL DEFAULT 0,
  done BOOLEAN NOT NULL DEFAULT FALSE,
  UNIQUE (run_id, event, occasion, hook)
);
CREATE TABLE origins (
  run_id TEXT,
  position BIGINT,
  origin BIGINT NOT NULL,
  PRIMARY KEY (run_id, position)
) WITHOUT ROWID;
INSERT INTO "origins" VALUES('01M8JB57B6NVV6KR9BMYMSNEGA',0,1);
CREATE TABLE outcomes (
  run_id TEXT,
  position BIGINT,
  chunk INTEGER NOT NULL,
  item TEXT NOT NULL,
  outcome TEXT NOT NULL,
  message TEXT,
  kind TEXT,                          -- of a failure: see runner.model.kind_of_failure
  at DOUBLE PRECISION,
  PRIMARY KEY (run_id, position)
) WITHOUT ROWID;
INSERT INTO "outcomes" VALUES('01M8JB53Y429RYD6X57MW7C91C',0,0,'o/r0','completed',NULL,NULL,1.79591201312669706342e+09);
INSERT INTO "outcomes" VALUES('01M8JB53Y429RYD6X57MW7C91C',1,0,'o/r1','failed','ValueError: o/r1 is broken','cc14457bf6b00bd0',1.79591201312669706342e+09);
INSERT INTO "outcomes" VALUES('01M8JB53Y429RYD6X57MW7C91C',2,0,'o/r2','completed',NULL,NULL,1.79591201312669706342e+09);
INSERT INTO "outcomes" VALUES('01M8JB57B6NVV6KR9BMYMSNEGA',0,0,'o/r1','failed','ValueError: o/r1 is broken','cc14457bf6b00bd0',1.79591201649660563467e+09);
CREATE TABLE rounds (
  run_id TEXT,
  stage INTEGER,
  number INTEGER,
  first BIGINT NOT NULL,              -- of the stage's events, from 0
  events BIGINT NOT NULL,
  backlog DOUBLE PRECISION,           -- before it
  at DOUBLE PRECISION NOT NULL,
  PRIMARY KEY (run_id, stage, number)
);
CREATE TABLE runs (
  id TEXT PRIMARY KEY,
  plan TEXT NOT NULL,
  path TEXT NOT NULL,
  digest TEXT NOT NULL,
  target TEXT NOT NULL,               -- as it was named
  address TEXT NOT NULL,              -- what that meant: see Target.address
  environment TEXT NOT NULL,          -- of the project file; empty: none
  baseline TEXT,                      -- why it counts as applied though nothing was sent
  partial TEXT,                       -- the selectors of a run that is not for all of its plan
  variables TEXT NOT NULL,            -- JSON: the --var overrides
  planned BIGINT NOT NULL,
  follow BOOLEAN NOT NULL,
  status TEXT NOT NULL,
  started_at DOUBLE PRECISION NOT NULL,
  started_by TEXT NOT NULL,           -- for people
  ended_at DOUBLE PRECISION,
  head TEXT NOT NULL,                 -- JSON: the execution plan without its events
  parent TEXT,                        -- the run that this one retries
  wanted TEXT,                        -- what an operator asks for: pause | cancel
  batch_size INTEGER,                 -- ... and how the run is tuned
  delay DOUBLE PRECISION,
  max_in_flight INTEGER,
  source TEXT,                        -- the plan file as it was read
  notify TEXT NOT NULL,               -- JSON: see runner.adapters.journal.notices
  reason TEXT                         -- why it ended before its plan did
);
INSERT INTO "runs" VALUES('01M8JB53Y429RYD6X57MW7C91C','test','/srv/demo/plan.yaml','sha256:2d986b044c685a64b0ca9de9ea180b526b4732bf3401cabb861b18734878853b','http://127.0.0.1:8288','http://127.0.0.1:8288 http://127.0.0.1:8288','',NULL,NULL,'{}',3,1,'failed',1.7959120129747657776e+09,'demo@host (process 9574)',1.7959120131509616375e+09,'{"name":"test","path":"/srv/demo/plan.yaml","digest":"sha256:2d986b044c685a64b0ca9de9ea180b526b4732bf3401cabb861b18734878853b","on_failure":"stop","give_up_after":null,"max_failures":null,"approval":null,"if_empty":"fail","accept":{},"partial":null,"requires":null,"metadata":{"name":"test"},"handlers":{},"inputs":[["/srv/demo/plan.yaml","d1a1b8da9a5fec66e5caebe3ab0dc03b905c957f67244a5767568d379c4eb962"],["/srv/demo/catalog.yaml","ef66abeada6d9c47789b11217e87535dbef94dc57e8acb3f8715109682106e82"]],"guards":[],"stages":[{"number":1,"operation":"sync","event":"app/sync","for_each":"repo","pacing":{"batch_size":50,"delay":5.0,"jitter":0.0},"wait":"completed","timeout":900.0,"canary":0,"begins":null,"count":3,"numbered":false,"repeated":false,"deferred":false,"until":null,"needs":null,"own":false,"grouped":false,"members":[],"cap":null,"queue_timeout":86400.0}],"checks":[{"name":"synced","question":{"query":{"ask":"select name as repo, synced from repositories","database":null,"max_rows":100000,"timezone":null},"parameters":{},"of":null,"key":null,"items":[],"ids":[]},"expect":{"column":"synced","at_least":1,"at_most":null,"equals":null,"change":null,"newer_than":null,"rows_at_least":null,"rows_at_most":null,"maximum":null},"moment":"end","operation":null,"timeout":0.0,"every":15.0,"unchanged":"allow","migration":null}],"coverage":[["synced",{"query":{"ask":"select name as item, 1 as total, synced as done from repositories","database":null,"max_rows":100000,"timezone":null},"parameters":{},"of":null,"key":null,"items":[],"ids":[]}]],"facts":[],"skipped":[]}',NULL,NULL,NULL,NULL,NULL,'apiVersion: backfill/v1
kind: BackfillPlan
metadata: {name: test}
catalog: catalog.yaml
repos: [o/r0, o/r1, o/r2]
operations: [sync]
checks:
  - {name: synced, query: "select name as repo, synced from repositories",
     expect: {column: synced, at_least: 1}, unchanged: allow}
coverage:
  synced: {query: "select name as item, 1 as total, synced as done from repositories"}
','',NULL);
INSERT INTO "runs" VALUES('01M8JB57B6NVV6KR9BMYMSNEGA','test','/srv/demo/plan.yaml','sha256:3c247737859dce85540598bdf1ca839f66bd81f6acc8bda82972c96bd0772951','http://127.0.0.1:8288','http://127.0.0.1:8288 http://127.0.0.1:8288','',NULL,NULL,'{}',1,1,'failed',1.79591201637631535533e+09,'demo@host (process 9604)',1.79591201654388356204e+09,'{"name":"test","path":"/srv/demo/plan.yaml","digest":"sha256:3c247737859dce85540598bdf1ca839f66bd81f6acc8bda82972c96bd0772951","on_failure":"stop","give_up_after":null,"max_failures":null,"approval":null,"if_empty":"fail","accept":{},"partial":null,"requires":null,"metadata":{"name":"test"},"handlers":{},"inputs":[["/srv/demo/plan.yaml","d1a1b8da9a5fec66e5caebe3ab0dc03b905c957f67244a5767568d379c4eb962"],["/srv/demo/catalog.yaml","ef66abeada6d9c47789b11217e87535dbef94dc57e8acb3f8715109682106e82"]],"guards":[],"stages":[{"number":1,"operation":"sync","event":"app/sync","for_each":"repo","pacing":{"batch_size":50,"delay":5.0,"jitter":0.0},"wait":"completed","timeout":900.0,"canary":0,"begins":null,"count":1,"numbered":false,"repeated":false,"deferred":false,"until":null,"needs":null,"own":false,"grouped":false,"members":[],"cap":null,"queue_timeout":86400.0}],"checks":[{"name":"synced","question":{"query":{"ask":"select name as repo, synced from repositories","database":null,"max_rows":100000,"timezone":null},"parameters":{},"of":null,"key":null,"items":[],"ids":[]},"expect":{"column":"synced","at_least":1,"at_most":null,"equals":null,"change":null,"newer_than":null,"rows_at_least":null,"rows_at_most":null,"maximum":null},"moment":"end","operation":null,"timeout":0.0,"every":15.0,"unchanged":"allow","migration":null}],"coverage":[["synced",{"query":{"ask":"select name as item, 1 as total, synced as done from repositories","database":null,"max_rows":100000,"timezone":null},"parameters":{},"of":null,"key":null,"items":[],"ids":[]}]],"facts":[],"skipped":[]}','01M8JB53Y429RYD6X57MW7C91C',NULL,NULL,NULL,NULL,NULL,'',NULL);
INSERT INTO "runs" VALUES('01M8JB61A81JM9XNMJM74KMD74','test','/srv/demo/other/plan.yaml','sha256:c9747e82f8ec3a288da79c13b4adcafb90d62d0fe0f2a0401b5d52dd37d595f3','http://127.0.0.1:8288','http://127.0.0.1:8288 http://127.0.0.1:8288','',NULL,NULL,'{}',2,0,'sent',1.79591204341020178793e+09,'demo@host (process 10072)',1.79591204355848860739e+09,'{"name":"test","path":"/srv/demo/other/plan.yaml","digest":"sha256:c9747e82f8ec3a288da79c13b4adcafb90d62d0fe0f2a0401b5d52dd37d595f3","on_failure":"stop","give_up_after":null,"max_failures":null,"approval":null,"if_empty":"fail","accept":{},"partial":null,"requires":null,"metadata":{"name":"test"},"handlers":{},"inputs":[["/srv/demo/other/plan.yaml","bb2d307a258f9702417ea5a133a4467d20f379411a19d66033fb0dadad34c624"],["/srv/demo/other/catalog.yaml","ef66abeada6d9c47789b11217e87535dbef94dc57e8acb3f8715109682106e82"]],"guards":[],"stages":[{"number":1,"operation":"sync","event":"app/sync","for_each":"repo","pacing":{"batch_size":50,"delay":5.0,"jitter":0.0},"wait":"completed","timeout":900.0,"canary":0,"begins":null,"count":2,"numbered":false,"repeated":false,"deferred":false,"until":null,"needs":null,"own":false,"grouped":false,"members":[],"cap":null,"queue_timeout":86400.0}],"checks":[],"coverage":[],"facts":[],"skipped":[]}',NULL,NULL,NULL,NULL,NULL,'apiVersion: backfill/v1
kind: BackfillPlan
metadata: {name: test}
catalog: catalog.yaml
repos: [o/r0, o/r1]
operations: [sync]
','',NULL);
CREATE TABLE syncs (
  id TEXT PRIMARY KEY,
  repository TEXT NOT NULL,
  branch TEXT NOT NULL,
  path TEXT NOT NULL,
  target TEXT NOT NULL,
  every DOUBLE PRECISION NOT NULL,
  holder TEXT NOT NULL,
  checked_at DOUBLE PRECISION NOT NULL,
  outcome TEXT NOT NULL,
  message TEXT,
  seen TEXT,
  applied TEXT,
  applied_at DOUBLE PRECISION,
  ended_at DOUBLE PRECISION
);
CREATE TABLE waits (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  run_id TEXT NOT NULL,
  stage INTEGER NOT NULL,
  reason TEXT NOT NULL,
  kind TEXT NOT NULL,
  item TEXT,
  since DOUBLE PRECISION,
  again DOUBLE PRECISION,
  until DOUBLE PRECISION,
  tries INTEGER,
  began DOUBLE PRECISION NOT NULL,
  ended DOUBLE PRECISION
);
INSERT INTO "waits" VALUES(1,'01M8JB53Y429RYD6X57MW7C91C',1,'for its jobs to end','jobs',NULL,NULL,NULL,NULL,NULL,1.7959120130478274822e+09,1.79591201313331341746e+09);
INSERT INTO "waits" VALUES(2,'01M8JB57B6NVV6KR9BMYMSNEGA',1,'for its jobs to end','jobs',NULL,NULL,NULL,NULL,NULL,1.79591201643575882913e+09,1.7959120165013234615e+09);
CREATE INDEX failures ON outcomes (run_id, outcome, position) WHERE outcome <> 'completed';
CREATE INDEX jobs_by_event ON jobs (run_id, position);
CREATE INDEX notes_by_run ON notes (run_id, number);
CREATE INDEX waits_by_run ON waits (run_id, number);
CREATE INDEX drives_by_run ON drives (run_id, number);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('drives',3);
INSERT INTO "sqlite_sequence" VALUES('waits',2);
INSERT INTO "sqlite_sequence" VALUES('notes',1);
COMMIT;
