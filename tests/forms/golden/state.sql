BEGIN TRANSACTION;
CREATE TABLE answers (
  run_id TEXT,
  name TEXT,
  value TEXT NOT NULL,                -- JSON
  at DOUBLE PRECISION NOT NULL,
  PRIMARY KEY (run_id, name)
);
INSERT INTO "answers" VALUES('01M8J4NHEC1CXW6CS44KX0H1Y8','coverage synced before','[["item","total","done"],[["o/r0",1,1],["o/r1",1,1],["o/r2",1,1]]]',1.79590521027138876912e+09);
INSERT INTO "answers" VALUES('01M8J4NJPV6D5S8S0XHQF4ZEPV','coverage synced before','[["item","total","done"],[["o/r0",1,1],["o/r1",1,1],["o/r2",1,1]]]',1.79590521178953695297e+09);
CREATE TABLE backfill_version (version INTEGER PRIMARY KEY);
INSERT INTO "backfill_version" VALUES(1);
CREATE TABLE blocks (
  run_id TEXT,
  stage INTEGER,
  number INTEGER,
  body BLOB NOT NULL,              -- see runner.planning.event_blocks
  PRIMARY KEY (run_id, stage, number)
);
INSERT INTO "blocks" VALUES('01M8J4NHEC1CXW6CS44KX0H1Y8',1,0,X'780153CAD72F3250E2AC562A4A2DC857B25202736BB940B421AAB0A11244D80855D848A9160082E412D2');
INSERT INTO "blocks" VALUES('01M8J4NJPV6D5S8S0XHQF4ZEPV',1,0,X'780153CAD72F3254E2AC562A4A2DC857B25202736B0145D10640');
INSERT INTO "blocks" VALUES('01M8J4P7B0V32M380G4JJWESTK',1,0,X'780153CAD72F3250E2AC562A4A2DC857B25202736BB940B421AAB0A1522D001BFE0C87');
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
INSERT INTO "chunks" VALUES('01M8J4NHEC1CXW6CS44KX0H1Y8',0,1,1,'sync','app/sync',0,2,'1795905210273,8mEvIk2ReTSqCA==','accepted',0,1.7959052102739014626e+09,1.79590521026054644585e+09,NULL,2,1);
INSERT INTO "chunks" VALUES('01M8J4NJPV6D5S8S0XHQF4ZEPV',0,1,1,'sync','app/sync',0,0,'1795905211793,o0G8YdZDalixzw==','accepted',0,1.79590521179387354851e+09,1.7959052117555966377e+09,NULL,0,1);
INSERT INTO "chunks" VALUES('01M8J4P7B0V32M380G4JJWESTK',0,1,1,'sync','app/sync',0,1,'1795905233012,AuhP8ayGMns/Og==','accepted',0,1.7959052330127203464e+09,1.79590523300027322768e+09,NULL,0,0);
CREATE TABLE drives (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  run_id TEXT NOT NULL,
  since DOUBLE PRECISION NOT NULL,
  until DOUBLE PRECISION NOT NULL
);
INSERT INTO "drives" VALUES(1,'01M8J4NHEC1CXW6CS44KX0H1Y8',1.79590521026382493978e+09,1.79590521034375715254e+09);
INSERT INTO "drives" VALUES(2,'01M8J4NJPV6D5S8S0XHQF4ZEPV',1.79590521176119518277e+09,1.79590521183013582229e+09);
INSERT INTO "drives" VALUES(3,'01M8J4P7B0V32M380G4JJWESTK',1.79590523300596690181e+09,1.79590523304081869124e+09);
CREATE TABLE holds (
  address TEXT PRIMARY KEY,           -- see Target.address
  target TEXT NOT NULL,               -- as it is shown
  reason TEXT NOT NULL,
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
  PRIMARY KEY (run_id, job_id, position)
);
INSERT INTO "jobs" VALUES('01M8J4NHEC1CXW6CS44KX0H1Y8','01M8J4NHX954JBWEEND6KVP7SA',0,'7895d575-681a-5157-9c0f-34cb5933941c','Completed',NULL,'http://127.0.0.1:8288/run?runID=01M8J4NHX954JBWEEND6KVP7SA');
INSERT INTO "jobs" VALUES('01M8J4NHEC1CXW6CS44KX0H1Y8','01M8J4NHX9CXNE50KA3093WSPP',1,'7895d575-681a-5157-9c0f-34cb5933941c','Failed','ValueError: o/r1 is broken','http://127.0.0.1:8288/run?runID=01M8J4NHX9CXNE50KA3093WSPP');
INSERT INTO "jobs" VALUES('01M8J4NHEC1CXW6CS44KX0H1Y8','01M8J4NHX9HZVM487BAM1VT8SA',2,'7895d575-681a-5157-9c0f-34cb5933941c','Completed',NULL,'http://127.0.0.1:8288/run?runID=01M8J4NHX9HZVM487BAM1VT8SA');
INSERT INTO "jobs" VALUES('01M8J4NJPV6D5S8S0XHQF4ZEPV','01M8J4NKCWWYX005WQJNWFG4BT',0,'7895d575-681a-5157-9c0f-34cb5933941c','Failed','ValueError: o/r1 is broken','http://127.0.0.1:8288/run?runID=01M8J4NKCWWYX005WQJNWFG4BT');
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
  message TEXT NOT NULL
);
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
INSERT INTO "origins" VALUES('01M8J4NJPV6D5S8S0XHQF4ZEPV',0,1);
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
INSERT INTO "outcomes" VALUES('01M8J4NHEC1CXW6CS44KX0H1Y8',0,0,'o/r0','completed',NULL,NULL,1.79590521033611679076e+09);
INSERT INTO "outcomes" VALUES('01M8J4NHEC1CXW6CS44KX0H1Y8',1,0,'o/r1','failed','ValueError: o/r1 is broken','cc14457bf6b00bd0',1.79590521033611679076e+09);
INSERT INTO "outcomes" VALUES('01M8J4NHEC1CXW6CS44KX0H1Y8',2,0,'o/r2','completed',NULL,NULL,1.79590521033611679076e+09);
INSERT INTO "outcomes" VALUES('01M8J4NJPV6D5S8S0XHQF4ZEPV',0,0,'o/r1','failed','ValueError: o/r1 is broken','cc14457bf6b00bd0',1.79590521182264590258e+09);
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
INSERT INTO "runs" VALUES('01M8J4NHEC1CXW6CS44KX0H1Y8','test','/srv/demo/plan.yaml','sha256:2d986b044c685a64b0ca9de9ea180b526b4732bf3401cabb861b18734878853b','http://127.0.0.1:8288','http://127.0.0.1:8288 http://127.0.0.1:8288','',NULL,NULL,'{}',3,1,'failed',1.79590521026054644585e+09,1.79590521035057115555e+09,'{"name":"test","path":"/srv/demo/plan.yaml","digest":"sha256:2d986b044c685a64b0ca9de9ea180b526b4732bf3401cabb861b18734878853b","on_failure":"stop","give_up_after":null,"max_failures":null,"approval":null,"if_empty":"fail","accept":{},"partial":null,"requires":null,"metadata":{"name":"test"},"handlers":{},"inputs":[["/srv/demo/plan.yaml","d1a1b8da9a5fec66e5caebe3ab0dc03b905c957f67244a5767568d379c4eb962"],["/srv/demo/catalog.yaml","ef66abeada6d9c47789b11217e87535dbef94dc57e8acb3f8715109682106e82"]],"guards":[],"stages":[{"number":1,"operation":"sync","event":"app/sync","for_each":"repo","pacing":{"batch_size":50,"delay":5.0,"jitter":0.0},"wait":"completed","timeout":900.0,"canary":0,"begins":null,"count":3,"numbered":false,"repeated":false,"deferred":false,"until":null,"needs":null,"own":false,"grouped":false,"members":[],"cap":null,"queue_timeout":86400.0}],"checks":[{"name":"synced","question":{"query":{"ask":"select name as repo, synced from repositories","database":null,"max_rows":100000,"timezone":null},"parameters":{},"of":null,"key":null,"items":[],"ids":[]},"expect":{"column":"synced","at_least":1,"at_most":null,"equals":null,"change":null,"newer_than":null,"rows_at_least":null,"rows_at_most":null,"maximum":null},"moment":"end","operation":null,"timeout":0.0,"every":15.0,"unchanged":"allow","migration":null}],"coverage":[["synced",{"query":{"ask":"select name as item, 1 as total, synced as done from repositories","database":null,"max_rows":100000,"timezone":null},"parameters":{},"of":null,"key":null,"items":[],"ids":[]}]],"facts":[],"skipped":[]}',NULL,NULL,NULL,NULL,NULL,'apiVersion: backfill/v1
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
INSERT INTO "runs" VALUES('01M8J4NJPV6D5S8S0XHQF4ZEPV','test','/srv/demo/plan.yaml','sha256:3c247737859dce85540598bdf1ca839f66bd81f6acc8bda82972c96bd0772951','http://127.0.0.1:8288','http://127.0.0.1:8288 http://127.0.0.1:8288','',NULL,NULL,'{}',1,1,'failed',1.7959052117555966377e+09,1.79590521184892153733e+09,'{"name":"test","path":"/srv/demo/plan.yaml","digest":"sha256:3c247737859dce85540598bdf1ca839f66bd81f6acc8bda82972c96bd0772951","on_failure":"stop","give_up_after":null,"max_failures":null,"approval":null,"if_empty":"fail","accept":{},"partial":null,"requires":null,"metadata":{"name":"test"},"handlers":{},"inputs":[["/srv/demo/plan.yaml","d1a1b8da9a5fec66e5caebe3ab0dc03b905c957f67244a5767568d379c4eb962"],["/srv/demo/catalog.yaml","ef66abeada6d9c47789b11217e87535dbef94dc57e8acb3f8715109682106e82"]],"guards":[],"stages":[{"number":1,"operation":"sync","event":"app/sync","for_each":"repo","pacing":{"batch_size":50,"delay":5.0,"jitter":0.0},"wait":"completed","timeout":900.0,"canary":0,"begins":null,"count":1,"numbered":false,"repeated":false,"deferred":false,"until":null,"needs":null,"own":false,"grouped":false,"members":[],"cap":null,"queue_timeout":86400.0}],"checks":[{"name":"synced","question":{"query":{"ask":"select name as repo, synced from repositories","database":null,"max_rows":100000,"timezone":null},"parameters":{},"of":null,"key":null,"items":[],"ids":[]},"expect":{"column":"synced","at_least":1,"at_most":null,"equals":null,"change":null,"newer_than":null,"rows_at_least":null,"rows_at_most":null,"maximum":null},"moment":"end","operation":null,"timeout":0.0,"every":15.0,"unchanged":"allow","migration":null}],"coverage":[["synced",{"query":{"ask":"select name as item, 1 as total, synced as done from repositories","database":null,"max_rows":100000,"timezone":null},"parameters":{},"of":null,"key":null,"items":[],"ids":[]}]],"facts":[],"skipped":[]}','01M8J4NHEC1CXW6CS44KX0H1Y8',NULL,NULL,NULL,NULL,NULL,'',NULL);
INSERT INTO "runs" VALUES('01M8J4P7B0V32M380G4JJWESTK','test','/srv/demo/other/plan.yaml','sha256:c9747e82f8ec3a288da79c13b4adcafb90d62d0fe0f2a0401b5d52dd37d595f3','http://127.0.0.1:8288','http://127.0.0.1:8288 http://127.0.0.1:8288','',NULL,NULL,'{}',2,0,'sent',1.79590523300027322768e+09,1.79590523305784106247e+09,'{"name":"test","path":"/srv/demo/other/plan.yaml","digest":"sha256:c9747e82f8ec3a288da79c13b4adcafb90d62d0fe0f2a0401b5d52dd37d595f3","on_failure":"stop","give_up_after":null,"max_failures":null,"approval":null,"if_empty":"fail","accept":{},"partial":null,"requires":null,"metadata":{"name":"test"},"handlers":{},"inputs":[["/srv/demo/other/plan.yaml","bb2d307a258f9702417ea5a133a4467d20f379411a19d66033fb0dadad34c624"],["/srv/demo/other/catalog.yaml","ef66abeada6d9c47789b11217e87535dbef94dc57e8acb3f8715109682106e82"]],"guards":[],"stages":[{"number":1,"operation":"sync","event":"app/sync","for_each":"repo","pacing":{"batch_size":50,"delay":5.0,"jitter":0.0},"wait":"completed","timeout":900.0,"canary":0,"begins":null,"count":2,"numbered":false,"repeated":false,"deferred":false,"until":null,"needs":null,"own":false,"grouped":false,"members":[],"cap":null,"queue_timeout":86400.0}],"checks":[],"coverage":[],"facts":[],"skipped":[]}',NULL,NULL,NULL,NULL,NULL,'apiVersion: backfill/v1
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
INSERT INTO "waits" VALUES(1,'01M8J4NHEC1CXW6CS44KX0H1Y8',1,'for its jobs to end','jobs',NULL,NULL,NULL,NULL,NULL,1.7959052102898123265e+09,1.7959052103431918621e+09);
INSERT INTO "waits" VALUES(2,'01M8J4NJPV6D5S8S0XHQF4ZEPV',1,'for its jobs to end','jobs',NULL,NULL,NULL,NULL,NULL,1.79590521180752873422e+09,1.79590521182923388478e+09);
CREATE INDEX failures ON outcomes (run_id, outcome, position) WHERE outcome <> 'completed';
CREATE INDEX jobs_by_event ON jobs (run_id, position);
CREATE INDEX notes_by_run ON notes (run_id, number);
CREATE INDEX waits_by_run ON waits (run_id, number);
CREATE INDEX drives_by_run ON drives (run_id, number);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('drives',3);
INSERT INTO "sqlite_sequence" VALUES('waits',2);
COMMIT;
