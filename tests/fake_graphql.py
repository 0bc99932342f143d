"""What a W&B server keeps of runs and artifacts, and its answers to the GraphQL operations that our runs send."""

import base64
import hashlib
import json
from dataclasses import dataclass, field
from threading import RLock
from typing import Any
from urllib.parse import quote

ENTITY = {"id": "RW50aXR5", "name": "me"}


@dataclass
class Run:
    """What arrived of one run."""

    name: str
    settings: dict[str, Any] = field(default_factory=dict)  # project, group, job type, ...
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    exit_code: int | None = None  # None while it is running
    rewritten: int = 0  # rows that came again over others

    def bucket(self) -> dict[str, Any]:
        """As GraphQL describes a run."""
        return {
            "id": f"ID-{self.name}", "name": self.name, "displayName": self.name, "description": None, "notes": None,
            "tags": [], "sweepName": None, "stopped": False, "state": None, "wandbConfig": '{"t": 1}',
            "config": json.dumps(self.config), "summaryMetrics": json.dumps(self.summary),
            "historyTail": json.dumps([json.dumps(row) for row in self.history[-1:]]),
            "historyLineCount": len(self.history), "eventsTail": "[]", "eventsLineCount": 0, "logLineCount": 0,
            "project": {"id": "UHJvamVjdA==", "name": self.settings.get("modelName") or "epochscope", "entity": ENTITY},
        }  # fmt: skip


@dataclass
class Artifact:
    """What arrived of one artifact."""

    id: str
    name: str
    type: str
    digest: str
    client: str
    aliases: list[str]
    made_by: list[str | None] = field(default_factory=list)
    used_by: list[str] = field(default_factory=list)
    announced: dict[str, str] = field(default_factory=dict)  # md5 of each file
    files: dict[str, bytes] = field(default_factory=dict)
    state: str = "PENDING"

    def whole(self) -> bool:
        """Whether it was committed after all that was announced had arrived, unchanged."""
        came = {name: base64.b64encode(hashlib.md5(data).digest()).decode() for name, data in self.files.items()}
        return self.state == "COMMITTED" and came == self.announced


class Backend:
    """The server's memory; each public method from `Viewer` on answers the operation of its name."""

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.artifacts: dict[str, Artifact] = {}
        self.url, self.lock = "", RLock()

    def run(self, name: str) -> Run:
        """The run of this name, a new one where there is none."""
        return self.runs.setdefault(name, Run(name))

    def stream(self, name: str, sent: dict[str, Any]) -> None:
        """Rows, summary and end of a run; raises AssertionError where rows before them are missing."""
        run = self.run(name)
        for file, chunk in (sent.get("files") or {}).items():
            if file == "wandb-history.jsonl":
                start, rows = chunk["offset"], [json.loads(row) for row in chunk["content"]]
                assert start <= len(run.history), f"rows {len(run.history)} to {start} are missing"
                run.rewritten += len(run.history) - start
                run.history[start : start + len(rows)] = rows
            elif file == "wandb-summary.json":
                run.summary = json.loads(chunk["content"][-1])
        if sent.get("complete"):
            run.exit_code = sent.get("exitcode")

    def keep(self, kind: str, owner: str, name: str, data: bytes) -> None:
        """An uploaded file of a run or an artifact."""
        if kind == "run":
            self.run(owner).files[name] = data
        elif kind == "artifact":
            self.artifacts[owner].files[name] = data

    def Viewer(self, _: dict) -> dict:
        return {"viewer": {
            "id": "VXNlcjox", "entity": "me", "username": "me", "email": None, "admin": False, "flags": "{}",
            "defaultEntity": ENTITY, "apiKeys": {"edges": []}, "teams": {"edges": [{"node": ENTITY}]},
        }}  # fmt: skip

    def ServerInfo(self, _: dict) -> dict:
        return {"serverInfo": {"cliVersionInfo": {"max_cli_version": "9.0.0"}, "latestLocalVersionInfo": None}}

    def ServerFeaturesQuery(self, _: dict) -> dict:
        return {"serverInfo": {"features": []}}

    def UpsertBucket(self, given: dict) -> dict:
        name = given.get("name") or str(given["id"]).removeprefix("ID-")
        new, run = name not in self.runs, self.run(name)
        run.config |= json.loads(given.get("config") or "{}")
        run.summary |= json.loads(given.get("summaryMetrics") or "{}")
        run.settings |= {key: value for key, value in given.items() if value is not None}
        return {"upsertBucket": {"bucket": run.bucket(), "inserted": new}}

    def RunResumeStatus(self, given: dict) -> dict:
        bucket = self.runs[given["name"]].bucket() if given["name"] in self.runs else None
        return {"model": {"id": "UHJvamVjdA==", "name": given["project"], "entity": ENTITY, "bucket": bucket}}

    def OrganizationCoreWeaveOrganizationID(self, _: dict) -> dict:
        return {"entity": {"organization": None}}

    def RunStoppedStatus(self, _: dict) -> dict:
        return {"project": {"run": {"stopped": False}}}

    def CreateRunFiles(self, given: dict) -> dict:
        files = [{"name": name, "uploadUrl": self._place("run", given["run"], name)} for name in given["files"]]
        return {"createRunFiles": {"runID": "x", "uploadHeaders": [], "files": files}}

    def ArtifactType(self, given: dict) -> dict:
        name = given["name"].partition(":")[0]
        kind = next(({"name": made.type} for made in self.artifacts.values() if made.name == name), None)
        return {"project": {"artifact": {"artifactType": kind} if kind else None}}

    def CreateArtifact(self, given: dict) -> dict:
        name = given.get("artifactCollectionName") or given["artifactCollectionNames"][0]
        aliases = [alias["alias"] for alias in given.get("aliases") or []]
        same = [made for made in self.artifacts.values() if (made.name, made.digest) == (name, given["digest"])]
        number, kind = f"ART{len(self.artifacts)}", given["artifactTypeName"]
        made = same[0] if same else Artifact(number, name, kind, given["digest"], given["clientID"], [])
        made.aliases, made.made_by = made.aliases + aliases, [*made.made_by, given.get("runName")]
        self.artifacts[made.id] = made
        latest = {"latestArtifact": {"id": made.id} if same else None}
        return {"createArtifact": {"artifact": {"id": made.id, "state": made.state, "artifactSequence": latest}}}

    def CreateArtifactManifest(self, given: dict) -> dict:
        upload = self._place("manifest", given["artifactID"], "manifest") if given.get("includeUpload") else None
        made = {"id": f"MAN-{given['artifactID']}", "file": {"id": "f", "uploadUrl": upload, "uploadHeaders": []}}
        return {"createArtifactManifest": {"artifactManifest": made}}

    def UpdateArtifactManifest(self, given: dict) -> dict:
        upload = self._place("manifest", given["artifactManifestID"].removeprefix("MAN-"), "manifest")
        made = {"id": given["artifactManifestID"], "file": {"id": "f", "uploadUrl": upload, "uploadHeaders": []}}
        return {"updateArtifactManifest": {"artifactManifest": made}}

    def CreateArtifactFiles(self, given: dict) -> dict:
        edges = []
        for file in given["artifactFiles"]:
            owner, name = self.artifacts[file["artifactID"]], file["name"]
            owner.announced[name] = file["md5"]
            place = {"storagePath": name, "uploadUrl": self._place("artifact", owner.id, name), "uploadHeaders": []}
            edges.append({"node": {**place, "uploadMultipartUrls": None, "artifact": {"id": owner.id}}})
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def CommitArtifact(self, given: dict) -> dict:
        made = self.artifacts[given["artifactID"]]
        made.state = "COMMITTED"
        return {"commitArtifact": {"artifact": {"id": made.id, "digest": made.digest}}}

    def UseArtifact(self, given: dict) -> dict:
        used = self.artifacts[given["artifactID"]]
        used.used_by.append(given["runName"])
        return {"useArtifact": {"artifact": {"id": used.id, "digest": used.digest}}}

    def ClientIDMapping(self, given: dict) -> dict:
        ids = [made.id for made in self.artifacts.values() if made.client == given["clientID"]]
        return {"clientIDMapping": {"serverID": ids[0]} if ids else None}

    def _place(self, kind: str, owner: str, name: str) -> str:
        return f"{self.url}/storage/{kind}/{owner}/{quote(name)}"
