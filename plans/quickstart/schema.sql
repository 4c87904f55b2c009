-- The quickstart's tables, typical of a backfill, in a small SQLite file.
-- Times are ISO 8601 in UTC.

CREATE TABLE IF NOT EXISTS repositories (
    id TEXT PRIMARY KEY,                 -- uuid5 of the GitHub URL: the same on every machine
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    full_name TEXT NOT NULL UNIQUE,
    last_synced_at TEXT NOT NULL
);

CREATE TABLE IF NOT EXISTS workspace_repositories (
    workspace_id TEXT NOT NULL,
    repository_id TEXT NOT NULL REFERENCES repositories (id),
    PRIMARY KEY (workspace_id, repository_id)
);

CREATE TABLE IF NOT EXISTS pull_requests (
    id INTEGER PRIMARY KEY,
    repository_id TEXT NOT NULL REFERENCES repositories (id),
    number INTEGER NOT NULL,
    title TEXT NOT NULL,
    author TEXT NOT NULL,
    state TEXT NOT NULL,
    labels TEXT NOT NULL,                -- comma-separated
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    merged_at TEXT,
    content_hash TEXT NOT NULL,          -- of the text to embed
    last_synced_at TEXT NOT NULL,
    embedding TEXT,                      -- JSON array of 64 numbers, a unit vector; NULL: pending
    embedding_hash TEXT,                 -- the content_hash it was computed from
    embedding_generated_at TEXT,
    UNIQUE (repository_id, number)
);

CREATE TABLE IF NOT EXISTS issues (
    id INTEGER PRIMARY KEY,
    repository_id TEXT NOT NULL REFERENCES repositories (id),
    number INTEGER NOT NULL,
    title TEXT NOT NULL,
    author TEXT NOT NULL,
    state TEXT NOT NULL,
    labels TEXT NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    merged_at TEXT,                      -- always NULL: gives both tables the same columns
    content_hash TEXT NOT NULL,
    last_synced_at TEXT NOT NULL,
    embedding TEXT,
    embedding_hash TEXT,
    embedding_generated_at TEXT,
    UNIQUE (repository_id, number)
);

CREATE TABLE IF NOT EXISTS workspace_metrics (
    workspace_id TEXT PRIMARY KEY,
    repositories INTEGER NOT NULL,
    pull_requests INTEGER NOT NULL,
    merged_pull_requests INTEGER NOT NULL,
    merged_ratio REAL,                   -- merged / all pull requests; NULL if there are none
    issues INTEGER NOT NULL,
    open_issues INTEGER NOT NULL,
    contributors INTEGER NOT NULL,       -- authors of pull requests or issues
    median_hours_to_merge REAL,
    embedded_share REAL,                 -- rows with an up-to-date embedding / all rows
    computed_at TEXT NOT NULL
);

-- Pull requests and issues in one list, each row with its workspaces.
CREATE VIEW IF NOT EXISTS workspace_items AS
SELECT w.workspace_id, i.*
FROM workspace_repositories w
JOIN (
    SELECT 'pull_requests' AS kind, * FROM pull_requests
    UNION ALL
    SELECT 'issues' AS kind, * FROM issues
) i ON i.repository_id = w.repository_id;
