-- The tables of contributor.info that a backfill touches, with their real names and types, and a
-- view with a LIMIT inside, as the real one has it.
CREATE TABLE repositories (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  owner text NOT NULL,
  name text NOT NULL,
  full_name text NOT NULL,
  has_discussions boolean,
  is_private boolean NOT NULL DEFAULT false,
  last_updated_at timestamptz,
  last_synced_at timestamptz,
  UNIQUE (owner, name)
);
CREATE TABLE pull_requests (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  repository_id uuid NOT NULL REFERENCES repositories,
  number int NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  last_synced_at timestamptz,
  embedding vector(384),
  embedding_generated_at timestamptz,
  content_hash text
);
CREATE TABLE issues (LIKE pull_requests INCLUDING DEFAULTS);
CREATE TABLE discussions (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  repository_id uuid NOT NULL REFERENCES repositories,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  synced_at timestamptz,
  embedding vector(384),
  embedding_generated_at timestamptz,
  content_hash text
);
CREATE TABLE workspaces (
  id uuid PRIMARY KEY, slug text NOT NULL, tier text, is_active boolean NOT NULL
);
CREATE TABLE workspace_repositories (
  workspace_id uuid NOT NULL REFERENCES workspaces,
  repository_id uuid NOT NULL REFERENCES repositories
);
CREATE TABLE aggregated (workspace_id uuid NOT NULL);  -- what the test's own handler has done
CREATE TABLE schema_migrations (version text PRIMARY KEY);
CREATE VIEW items_needing_embeddings AS
  SELECT id, repository_id FROM pull_requests WHERE embedding IS NULL LIMIT 200;

INSERT INTO repositories (owner, name, full_name, has_discussions) VALUES
  ('continuedev', 'continue', 'continuedev/continue', true),
  ('vercel', 'ai', 'vercel/ai', false),
  ('bdougie', 'contributor.info', 'bdougie/contributor.info', NULL);
INSERT INTO workspaces VALUES
  ('3f1c9b1e-0000-4000-8000-000000000001', 'ai-tools', 'pro', true),
  ('3f1c9b1e-0000-4000-8000-000000000002', 'mine', 'free', true),
  ('3f1c9b1e-0000-4000-8000-000000000003', 'closed', 'free', false);
INSERT INTO workspace_repositories
  SELECT '3f1c9b1e-0000-4000-8000-000000000001', id FROM repositories WHERE owner <> 'bdougie';
INSERT INTO workspace_repositories
  SELECT w.id, r.id FROM workspaces w, repositories r
  WHERE w.slug IN ('mine', 'closed') AND r.owner = 'bdougie';
-- Pull requests that were fetched once and never embedded; one repository has none.
INSERT INTO pull_requests (repository_id, number)
  SELECT r.id, n FROM repositories r, generate_series(1, 250) n WHERE r.owner = 'continuedev';
INSERT INTO pull_requests (repository_id, number)
  SELECT r.id, n FROM repositories r, generate_series(1, 30) n WHERE r.owner = 'vercel';
