"""Tokens of clouds, forges and package registries, by the shapes that their makers gave them."""

from __future__ import annotations

from transcriptd.redaction.rule import Rule
from transcriptd.redaction.shapes import (
    START,
    base32,
    digits,
    hexadecimal,
    letters,
    lower,
    mixed,
    upper,
)  # fmt: skip

_UUID = "1f0e7a52-6c1d-4b8e-9a57-3d2c1b0a9f8e"

_CLOUDS = (
    Rule(
        "aws-access-key",
        START + r"((?:AKIA|ASIA|ABIA|ACCA)[0-9A-Z]{16})\b",
        true=("AKIA" + base32(16), "ASIA" + upper(16)),
        false=("AKIA" + base32(17), "AKIA" + lower(16), "akia" + base32(16), "XAKIA" + base32(16)),
    ),
    Rule(
        "aws-bedrock-key",
        START + r"(ABSK[0-9A-Za-z+/]{100,}={0,2}|bedrock-api-key-[0-9A-Za-z+/]{20,}={0,2})",
        true=("ABSK" + mixed(110), "bedrock-api-key-" + mixed(120)),
        false=("ABSK" + mixed(40), "bedrock-api-key-name"),
    ),
    Rule(
        "gcp-api-key",
        START + r"(AIza[0-9A-Za-z_-]{35})",
        true=("AIza" + mixed(35),),
        false=("AIza" + mixed(30), "AIzawa"),
    ),
    Rule(
        "google-oauth",
        START
        + r"(ya29\.[0-9A-Za-z_-]{20,}|GOCSPX-[0-9A-Za-z_-]{28}|1//0[0-9A-Za-z_-]{30,}"
        + r"|AQ\.Ab8[0-9A-Za-z_-]{30,})",
        true=("ya29." + mixed(60), "GOCSPX-" + mixed(28), "1//0" + mixed(50), "AQ.Ab8" + mixed(40)),
        false=("ya29.short", "GOCSPX-example", "1//0 is one"),
    ),
    Rule(
        "azure-storage-key",
        r"(?:AccountKey|SharedAccessKey)=([0-9A-Za-z+/]{42,86}={1,2})",
        true=("AccountKey=" + mixed(86) + "==", "SharedAccessKey=" + mixed(43) + "="),
        false=("AccountKey=", "SharedAccessKeyName=RootManageSharedAccessKey"),
    ),
    Rule(
        "azure-shared-signature",
        r"[?&;]sig=([0-9A-Za-z%+/]{40,80}(?:%3[dD]|=))",
        true=("?sv=2024-11-04&sig=" + mixed(43) + "%3D", "&sig=" + mixed(43) + "="),
        false=("?sig=1", "&sig=" + mixed(20)),
    ),
    Rule(
        "azure-client-secret",
        r"([0-9A-Za-z_~.-]{3}[0-9]Q~[0-9A-Za-z_~.-]{31,34})",
        true=("abc8Q~" + mixed(34),),
        false=("8Q~", "abc8Q~" + mixed(12)),
    ),
    Rule(
        "digitalocean-token",
        r"(do[opr]_v1_[0-9a-f]{64})",
        true=("dop_v1_" + hexadecimal(64), "doo_v1_" + hexadecimal(64)),
        false=("dop_v1_" + hexadecimal(32),),
    ),
    Rule(
        "cloudflare-token",
        START + r"(v1\.0-[0-9a-f]{24}-[0-9a-f]{146}|cf(?:k|ut|at)_[0-9A-Za-z]{40}[0-9a-f]{8})",
        true=(
            "v1.0-" + hexadecimal(24) + "-" + hexadecimal(146),
            "cfut_" + mixed(40) + hexadecimal(8),
        ),
        false=("v1.0-" + hexadecimal(24), "cfut_name"),
    ),
    Rule(
        "alibaba-access-key",
        START + r"(LTAI[0-9A-Za-z]{17,24})\b",
        true=("LTAI" + mixed(20),),
        false=("LTAI" + mixed(8), "LTAI" + mixed(40)),
    ),
    Rule(
        "tencent-secret-id",
        START + r"(AKID[0-9A-Za-z]{32})\b",
        true=("AKID" + mixed(32),),
        false=("AKID" + mixed(12),),
    ),
    Rule(
        "heroku-key",
        r"(HRKU-[0-9A-Za-z_-]{58,})",
        true=("HRKU-AA" + mixed(58),),
        false=("HRKU-AA",),
    ),
    Rule(
        "fly-token",
        START + r"(fo1_[0-9A-Za-z_-]{43}|fm[12][ar]?_[0-9A-Za-z+/]{100,}={0,3})",
        true=("fo1_" + mixed(43), "fm2_" + mixed(120)),
        false=("fo1_" + mixed(10), "fm2_x"),
    ),
    Rule(
        "tailscale-key",
        r"(tskey-[a-z]+-[0-9A-Za-z]+-[0-9A-Za-z]{20,}|tskey-[0-9A-Za-z]+-[0-9A-Za-z]{20,})",
        true=("tskey-auth-" + mixed(12) + "-" + mixed(32), "tskey-" + mixed(10) + "-" + mixed(24)),
        false=("tskey-auth-name",),
    ),
    Rule(
        "vercel-token",
        START + r"(vc[kparti]_[0-9A-Za-z_-]{24,})",
        true=("vcp_" + mixed(56), "vck_" + mixed(56)),
        false=("vcp_client", "vca_" + mixed(8)),
    ),
    Rule(
        "netlify-token",
        START + r"(nf[pcb]_[0-9A-Za-z]{36,})",
        true=("nfp_" + mixed(36),),
        false=("nfp_" + mixed(10),),
    ),
    Rule(
        "supabase-key",
        START + r"(sbp_(?:v0_)?[0-9a-f]{40}|sb_secret_[0-9A-Za-z_-]{31})",
        true=("sbp_" + hexadecimal(40), "sb_secret_" + mixed(31)),
        false=("sb_secret_name", "sbp_x"),
    ),
    Rule(
        "neon-key",
        START + r"(napi_[0-9a-z]{60,})",
        true=("napi_" + lower(64),),
        false=("napi_schedule", "napi_create_string_utf8"),
    ),
    Rule(
        "planetscale-token",
        r"(pscale_(?:tkn|pw|oauth)_[0-9A-Za-z_=.-]{32,})",
        true=("pscale_tkn_" + mixed(43), "pscale_pw_" + mixed(43)),
        false=("pscale_pw_name",),
    ),
    Rule(
        "mongodb-secret",
        r"(mdb_sa_sk_[0-9A-Za-z_-]{40})",
        true=("mdb_sa_sk_" + mixed(40),),
        false=("mdb_sa_sk_x",),
    ),
)

_FORGES = (
    Rule(
        "github-token",
        r"(gh[pousr]_[0-9A-Za-z]{36}[0-9A-Za-z_.-]*|github_pat_[0-9A-Za-z_]{50,})",
        true=(
            "ghp_" + mixed(36),
            "gho_" + mixed(36),
            "ghu_" + mixed(36),
            "ghs_" + mixed(36),
            "ghr_" + mixed(76),
            "github_pat_" + mixed(22) + "_" + mixed(59),
        ),
        false=("ghp_" + mixed(20), "github_pat_name", "ghs_installation_token"),
    ),
    Rule(
        "gitlab-token",
        r"(gl(?:pat|dt|rt|rtr|ptt|ft|imt|agent|oas|soat|ffct|wt)-[0-9A-Za-z_.-]{20,}"
        r"|glcbt-[0-9A-Za-z]{1,5}_[0-9A-Za-z_-]{20,}|GR1348941[0-9A-Za-z_-]{20})",
        true=(
            "glpat-" + mixed(20),
            "glpat-" + mixed(27) + ".01." + lower(9),
            "gldt-" + mixed(20),
            "glrt-t1_" + mixed(20),
            "glcbt-64_" + mixed(20),
            "glptt-" + hexadecimal(40),
            "GR1348941" + mixed(20),
        ),
        false=("glpat-" + mixed(8), "glft-"),
    ),
    Rule(
        "bitbucket-token",
        START
        + r"(ATBB[0-9A-Za-z]{32}|ATCTT3[0-9A-Za-z_=-]{100,}|ATATT3[0-9A-Za-z_=-]{100,}"
        + r"|BBDC-[0-9A-Za-z+/@_-]{40,})",
        true=(
            "ATBB" + mixed(32),
            "ATATT3" + mixed(180),
            "ATCTT3" + mixed(180),
            "BBDC-" + mixed(44),
        ),
        false=("ATBB" + mixed(8), "ATATT3" + mixed(20)),
    ),
    Rule(
        "gitea-token",
        START + r"(gt[aru]_[0-9a-z]{40,})",
        true=("gta_" + hexadecimal(40),),
        false=("gta_x",),
    ),
    Rule(
        "buildkite-token",
        START + r"(bk(?:ua|aa|aj|ar|ct|pt|pat|ps)_[0-9A-Za-z_-]{40,})",
        true=("bkua_" + hexadecimal(40),),
        false=("bkua_x",),
    ),
    Rule(
        "circleci-token",
        r"(CCIP(?:AT|RJ)_[0-9A-Za-z]{22}_[0-9a-f]{40})",
        true=("CCIPAT_" + mixed(22) + "_" + hexadecimal(40),),
        false=("CCIPAT_x",),
    ),
)

_REGISTRIES = (
    Rule(
        "npm-token",
        START + r"(npm_[0-9A-Za-z]{36})\b",
        true=("npm_" + mixed(36),),
        false=("npm_config_registry", "npm_" + mixed(40), "npm_lifecycle_event"),
    ),
    Rule(
        "npmrc-secret",
        r":_(?:authToken|auth|password)\s*=\s*\"?([0-9A-Za-z+/=_.-]{8,})",
        true=("//registry.npmjs.org/:_authToken=" + _UUID, "//host/:_password=" + mixed(24)),
        false=("//registry.npmjs.org/:_authToken=${NPM_TOKEN}", "//host/:_authToken="),
    ),
    Rule(
        "pypi-token",
        r"(pypi-AgE[0-9A-Za-z_-]{50,})",
        true=("pypi-AgEIcHlwaS5vcmc" + mixed(80), "pypi-AgENdGVzdC5weXBpLm9yZw" + mixed(80)),
        false=("pypi-AgEI", "pypi-publish"),
    ),
    Rule(
        "rubygems-key",
        r"(rubygems_[0-9a-f]{48})",
        true=("rubygems_" + hexadecimal(48),),
        false=("rubygems_version", "rubygems_" + hexadecimal(20)),
    ),
    Rule(
        "crates-token",
        START + r"(cio[0-9A-Za-z]{32})\b",
        true=("cio" + mixed(32),),
        false=("cio" + mixed(20), "cio" + mixed(33)),
        unless=r"[a-z]*|[0-9a-f]*",
    ),
    Rule(
        "docker-token",
        r"(dckr_(?:pat|oat)_[0-9A-Za-z_-]{27,}|SWMTKN-1-[0-9a-z]{40,}-[0-9a-z]{20,}"
        r"|SWMKEY-1-[0-9A-Za-z+/]{40,})",
        true=(
            "dckr_pat_" + mixed(27),
            "dckr_oat_" + mixed(32),
            "SWMTKN-1-" + lower(50) + "-" + lower(25),
            "SWMKEY-1-" + mixed(43),
        ),
        false=("dckr_pat_x", "SWMTKN-1-x"),
    ),
    Rule(
        "nuget-key",
        START + r"(oy2[0-9a-z]{43})\b",
        true=("oy2" + lower(43),),
        false=("oy2" + lower(20),),
    ),
    Rule(
        "artifactory-token",
        START + r"(AKCp[0-9A-Za-z]{69,}|cmVmd[0-9A-Za-z]{59})\b",
        true=("AKCp" + mixed(69), "cmVmd" + mixed(59)),
        false=("AKCp" + mixed(8),),
    ),
    Rule(
        "clojars-token",
        r"(CLOJARS_[0-9a-f]{60})",
        true=("CLOJARS_" + hexadecimal(60),),
        false=("CLOJARS_USERNAME",),
    ),
    Rule(
        "deno-token",
        START + r"(ddp_[0-9A-Za-z]{36}|jsrp_[0-9A-Za-z_-]{30,})",
        true=("ddp_" + mixed(36), "jsrp_" + mixed(36)),
        false=("ddp_" + mixed(10), "jsrp_x"),
    ),
    Rule(
        "huggingface-token",
        START + r"((?:hf|api_org)_[0-9A-Za-z]{34,})\b",
        true=("hf_" + letters(34), "api_org_" + letters(34)),
        false=("hf_" + letters(12), "hf_hub_download", "hf_" + digits(6)),
    ),
)

TOKENS: tuple[Rule, ...] = (*_CLOUDS, *_FORGES, *_REGISTRIES)
