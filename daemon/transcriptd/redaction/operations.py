"""Tokens of what watches, builds, plans and keeps: monitoring, vaults, trackers and alike."""

from __future__ import annotations

from transcriptd.redaction.rule import Rule
from transcriptd.redaction.shapes import START, digits, hexadecimal, lower, mixed, upper

_UUID = "1f0e7a52-6c1d-4b8e-9a57-3d2c1b0a9f8e"

_WATCHING = (
    Rule(
        "databricks-token",
        START + r"(dapi[0-9a-f]{32}(?:-[0-9])?)\b",
        true=("dapi" + hexadecimal(32), "dapi" + hexadecimal(32) + "-2"),
        false=("dapi" + hexadecimal(8), "dapi" + hexadecimal(33)),
    ),
    Rule(
        "grafana-token",
        START + r"(glsa_[0-9A-Za-z]{32}_[0-9a-fA-F]{8}|glc_[0-9A-Za-z+/]{32,}={0,2}"
        r"|eyJrIjoi[0-9A-Za-z+/]{60,}={0,2})",
        true=("glsa_" + mixed(32) + "_" + hexadecimal(8), "glc_" + mixed(80),
              "eyJrIjoi" + mixed(90) + "="),
        false=("glsa_x", "glc_" + mixed(8)),
    ),
    Rule(
        "sentry-token",
        r"(sntrys_[0-9A-Za-z+/=_-]{60,}|sntry[ua]_[0-9a-f]{64})",
        true=("sntrys_eyJpYXQiO" + mixed(90) + "_" + mixed(43), "sntryu_" + hexadecimal(64)),
        false=("sntrys_x", "sntryu_" + hexadecimal(12)),
    ),
    Rule(
        "newrelic-key",
        START + r"(NRAK-[0-9A-Z]{27}|NRII-[0-9A-Za-z_-]{32}|NRJS-[0-9a-f]{19}|NRRA-[0-9a-f]{42})\b",
        true=("NRAK-" + upper(27), "NRII-" + mixed(32), "NRJS-" + hexadecimal(19)),
        false=("NRAK-", "NRAK-" + upper(8)),
    ),
    Rule(
        "dynatrace-token",
        r"(dt0[a-z][0-9]{2}\.[0-9A-Z]{24}\.[0-9A-Z]{64})",
        true=("dt0c01." + upper(24) + "." + upper(64),),
        false=("dt0c01.x",),
    ),
    Rule(
        "datadog-key",
        START + r"(dd(?:app|api|pub|pat)_[0-9A-Za-z]{34,})",
        true=("ddapp_" + mixed(34), "ddpat_" + mixed(40)),
        false=("ddapp_name", "ddapi_" + mixed(8)),
    ),
    Rule(
        "sonar-token",
        START + r"(sq[upa]_[0-9a-f]{40})\b",
        true=("squ_" + hexadecimal(40),),
        false=("squ_" + hexadecimal(12),),
    ),
    Rule(
        "posthog-key",
        START + r"(phx_[0-9A-Za-z_-]{40,})",
        true=("phx_" + mixed(43),),
        false=("phc_" + mixed(43), "phx_name"),
    ),
)  # fmt: skip

_KEEPING = (
    Rule(
        "vault-token",
        START + r"(hv[sbr]\.[0-9A-Za-z_-]{20,})",
        true=("hvs." + mixed(95), "hvb." + mixed(140)),
        false=("hvs.x", "hvs.name"),
    ),
    Rule(
        "terraform-token",
        r"\.atlasv1\.([0-9A-Za-z_=-]{60,})",
        true=(mixed(14) + ".atlasv1." + mixed(67),),
        false=(".atlasv1.", mixed(14) + ".atlasv1.x"),
    ),
    Rule(
        "pulumi-token",
        START + r"(pul-[0-9a-f]{40})\b",
        true=("pul-" + hexadecimal(40),),
        false=("pul-" + hexadecimal(12), "pul-" + hexadecimal(41)),
    ),
    Rule(
        "doppler-token",
        START
        + r"(dp\.(?:pt|ct|sa|scim|audit|said|st(?:\.[0-9a-z_-]{2,35})?)\.[0-9A-Za-z]{40,44})\b",
        true=("dp.pt." + mixed(43), "dp.st." + mixed(43), "dp.st.prd_main." + mixed(43)),
        false=("dp.pt.x", "dp.st.dev."),
    ),
    Rule(
        "onepassword-token",
        r"(ops_eyJ[0-9A-Za-z+/_-]{100,}={0,3}"
        r"|A3-[0-9A-Z]{6}-(?:[0-9A-Z]{11}|[0-9A-Z]{6}-[0-9A-Z]{5})(?:-[0-9A-Z]{5}){3})",
        true=("ops_eyJ" + mixed(300), "A3-" + upper(6) + "-" + upper(6) + "-" + upper(5) + "-"
              + upper(5) + "-" + upper(5) + "-" + upper(5)),
        false=("ops_eyJ", "A3-size"),
    ),
    Rule(
        "infracost-key",
        START + r"(ico-[0-9A-Za-z]{32})\b",
        true=("ico-" + mixed(32),),
        false=("ico-image",),
    ),
    Rule(
        "openshift-token",
        r"(sha256~[0-9A-Za-z_-]{43})",
        true=("sha256~" + mixed(43),),
        false=("sha256~x", "sha256:" + hexadecimal(64)),
    ),
    Rule(
        "octopus-key",
        START + r"(API-[0-9A-Z]{25,32})\b",
        true=("API-" + upper(26),),
        false=("API-KEY", "API-DOCUMENTATION", "API-" + upper(8)),
        unless=r"API-[A-Z]*",
    ),
    Rule(
        "prefect-key",
        START + r"(pn[ub]_[0-9A-Za-z]{36})\b",
        true=("pnu_" + mixed(36),),
        false=("pnu_x",),
    ),
    Rule(
        "launchdarkly-key",
        START
        + r"((?:sdk|api|mob)-[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12})\b",
        true=("sdk-" + _UUID, "api-" + _UUID),
        false=("id-" + _UUID, _UUID),
    ),
)  # fmt: skip

_PLANNING = (
    Rule(
        "linear-key",
        r"(lin_(?:api|oauth|wh)_[0-9A-Za-z]{32,})",
        true=("lin_api_" + mixed(40), "lin_oauth_" + hexadecimal(64)),
        false=("lin_api_key", "lin_api_" + mixed(8)),
    ),
    Rule(
        "notion-token",
        START + r"(ntn_[0-9A-Za-z]{40,}|secret_[0-9A-Za-z]{43})\b",
        true=("ntn_" + digits(11) + mixed(35), "secret_" + mixed(43)),
        false=("ntn_x", "secret_" + mixed(12)),
        unless=r"[a-z_]*",
    ),
    Rule(
        "postman-key",
        r"(PMAK-[0-9a-f]{24}-[0-9a-f]{34})",
        true=("PMAK-" + hexadecimal(24) + "-" + hexadecimal(34),),
        false=("PMAK-x",),
    ),
    Rule(
        "airtable-token",
        START + r"(pat[0-9A-Za-z]{14}\.[0-9a-f]{64})\b",
        true=("pat" + mixed(14) + "." + hexadecimal(64),),
        false=("pat" + mixed(14), "patch.diff"),
    ),
    Rule(
        "figma-token",
        START + r"(fig[dour]_[0-9A-Za-z_-]{38,})",
        true=("figd_" + mixed(40),),
        false=("figd_x",),
    ),
    Rule(
        "hubspot-token",
        START + r"(pat-(?:na|eu|ap)[0-9]-[0-9a-f]{8}-[0-9a-f]{4}-"
        r"[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\b",
        true=("pat-na1-" + _UUID,),
        false=("pat-na1-x",),
    ),
    Rule(
        "harness-key",
        START + r"([ps]at\.[0-9A-Za-z_-]{22}\.[0-9a-zA-Z]{24}\.[0-9A-Za-z]{20})\b",
        true=("pat." + mixed(22) + "." + hexadecimal(24) + "." + mixed(20),),
        false=("pat.x.y.z",),
    ),
    Rule(
        "contentful-token",
        r"(CFPAT-[0-9A-Za-z_-]{40,})",
        true=("CFPAT-" + mixed(43),),
        false=("CFPAT-x",),
    ),
    Rule(
        "mapbox-secret",
        START + r"(sk\.eyJ[0-9A-Za-z_-]{40,}\.[0-9A-Za-z_-]{20,})",
        true=("sk.eyJ" + mixed(80) + "." + mixed(22),),
        false=("sk.eyJ", "sk.learn"),
    ),
    Rule(
        "sourcegraph-token",
        START + r"(sgp_(?:(?:[0-9a-f]{16}|local)_)?[0-9a-f]{40}|sgp_[0-9A-Za-z]{64})\b",
        true=("sgp_" + hexadecimal(40), "sgp_" + hexadecimal(16) + "_" + hexadecimal(40)),
        false=("sgp_x",),
    ),
    Rule(
        "facebook-token",
        START + r"(EAA[0-9A-Za-z]{100,})\b",
        true=("EAAC" + mixed(150),),
        false=("EAAC" + mixed(20),),
    ),
    Rule(
        "twitter-bearer",
        START + r"(A{21,22}[0-9A-Za-z]*%[0-9A-Za-z%]{60,})",
        true=("A" * 22 + mixed(20) + "%3D" + mixed(70),),
        false=("A" * 80,),
    ),
    Rule(
        "dropbox-token",
        START + r"(sl\.(?:u\.)?[0-9A-Za-z_-]{130,})",
        true=("sl." + mixed(135), "sl.u." + mixed(160)),
        false=("sl.x", "sl." + mixed(30)),
    ),
    Rule(
        "typeform-token",
        START + r"(tfp_[0-9A-Za-z_.=-]{40,})",
        true=("tfp_" + mixed(59),),
        false=("tfp_x",),
    ),
    Rule(
        "readme-key",
        START + r"(rdme_[0-9a-z]{70})\b",
        true=("rdme_" + lower(70),),
        false=("rdme_x",),
    ),
    Rule(
        "maxmind-key",
        r"_([0-9A-Za-z]{29}_mmk)\b",
        true=(mixed(6) + "_" + mixed(29) + "_mmk",),
        false=("x_mmk",),
    ),
)  # fmt: skip

OPERATIONS: tuple[Rule, ...] = (*_WATCHING, *_KEEPING, *_PLANNING)
