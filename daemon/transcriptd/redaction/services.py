"""Tokens of services: models, chat, payment and mail."""

from __future__ import annotations

from transcriptd.redaction.rule import Rule
from transcriptd.redaction.shapes import (
    START,
    digits,
    hexadecimal,
    lower,
    mixed,
    upper,
)  # fmt: skip

_UUID = "1f0e7a52-6c1d-4b8e-9a57-3d2c1b0a9f8e"
_SNOWFLAKE = "MTk4NjIyNDgzNDcxOTI1MjQ4"  # 198622483471925248 in base 64

_MODELS = (
    Rule(
        "anthropic-key",
        r"(sk-ant-[0-9a-z]+-[0-9A-Za-z_-]{20,})",
        true=("sk-ant-api03-" + mixed(93) + "AA", "sk-ant-oat01-" + mixed(95),
              "sk-ant-admin01-" + mixed(93) + "AA", "sk-ant-sid01-" + mixed(86)),
        false=("sk-ant-", "sk-ant-api03-...", "sk-ant-api03-your-key"),
        unless=r"sk-ant-[0-9a-z]+-[xX_-]*",
    ),
    Rule(
        "openrouter-key",
        r"(sk-or-(?:v1-)?[0-9A-Za-z]{32,})",
        true=("sk-or-v1-" + hexadecimal(64),),
        false=("sk-or-v1-", "sk-or-v1-example"),
        unless=r"sk-or-(?:v1-)?[xX]*",
    ),
    Rule(
        "openai-key",
        START + r"(sk-(?:(?:proj|svcacct|admin|service|None)-[0-9A-Za-z_-]{20,}|[0-9A-Za-z]{32,}))",
        true=("sk-proj-" + mixed(74) + "T3BlbkFJ" + mixed(74), "sk-svcacct-" + mixed(58),
              "sk-" + mixed(20) + "T3BlbkFJ" + mixed(20), "sk-" + hexadecimal(32)),
        false=("sk-proj-...", "sk-" + mixed(12), "sk-learn-contrib-project", "task-" + mixed(40)),
        unless=r"sk-(?:[a-z-]*|(?:[a-z]+-)?[xX_-]*)",
    ),
    Rule(
        "groq-key",
        START + r"(gsk_[0-9A-Za-z]{40,})",
        true=("gsk_" + mixed(52),),
        false=("gsk_" + mixed(8), "gsk_renderer_new"),
    ),
    Rule(
        "perplexity-key",
        START + r"(pplx-[0-9A-Za-z]{32,})",
        true=("pplx-" + mixed(48),),
        false=("pplx-api", "pplx-" + mixed(10)),
    ),
    Rule(
        "replicate-token",
        START + r"(r8_[0-9A-Za-z]{37})\b",
        true=("r8_" + mixed(37),),
        false=("r8_" + mixed(12),),
    ),
    Rule(
        "xai-key",
        START + r"(xai-[0-9A-Za-z_-]{60,})",
        true=("xai-" + mixed(80),),
        false=("xai-sdk-python",),
    ),
    Rule(
        "nvidia-key",
        r"(nvapi-[0-9A-Za-z_-]{50,})",
        true=("nvapi-" + mixed(64),),
        false=("nvapi-docs",),
    ),
    Rule(
        "langsmith-key",
        r"(lsv2_(?:pt|sk)_[0-9a-f]{32}_[0-9a-f]{10})",
        true=("lsv2_pt_" + hexadecimal(32) + "_" + hexadecimal(10),),
        false=("lsv2_pt_x",),
    ),
    Rule(
        "model-service-key",
        START
        + r"(tgp_v1_[0-9A-Za-z_-]{43}|csk-[0-9a-z]{40,}|tvly-[0-9A-Za-z_-]{24,}"
        + r"|fc-[0-9a-f]{32}|pcsk_[0-9A-Za-z_]{60,}|jina_[0-9A-Za-z_-]{50,}|e2b_[0-9a-f]{40}"
        + r"|rpa_[0-9A-Za-z]{40,}|crsr_[0-9a-f]{64}|key_[0-9a-f]{64}|wandb_v1_[0-9A-Za-z_]{40,}"
        + r"|sk_[0-9a-f]{48}|fw_[0-9A-Za-z]{24})\b",
        true=(
            "tgp_v1_" + mixed(43), "csk-" + lower(48), "tvly-dev-" + mixed(32),
            "fc-" + hexadecimal(32), "pcsk_" + mixed(6) + "_" + mixed(63), "jina_" + mixed(60),
            "e2b_" + hexadecimal(40), "rpa_" + upper(46), "crsr_" + hexadecimal(64),
            "wandb_v1_" + mixed(77), "sk_" + hexadecimal(48), "fw_" + mixed(24),
        ),
        false=("tvly-dev-key", "fc-cache", "key_x", "jina_embeddings", "sk_buff_head_init"),
    ),
)  # fmt: skip

_CHAT = (
    Rule(
        "slack-token",
        r"(xox[a-z]-[0-9A-Za-z%/+=-]{10,}|xoxe\.xox[bp]-[0-9A-Za-z-]{20,}"
        r"|xapp-[0-9]-[0-9A-Z]+-[0-9]+-[0-9a-f]+)",
        true=(
            "xoxb-" + digits(12) + "-" + digits(13) + "-" + mixed(24),
            "xoxp-" + digits(11) + "-" + digits(11) + "-" + digits(12) + "-" + hexadecimal(32),
            "xapp-1-A" + upper(10) + "-" + digits(13) + "-" + hexadecimal(64),
            "xoxe.xoxp-1-" + mixed(163),
        ),
        false=("xoxb-", "xoxb-...", "xoxb-your-token", "xapp-1-"),
        unless=r"xox[a-z]-[A-Za-z-]*",
    ),
    Rule(
        "slack-webhook",
        r"hooks\.slack(?:-gov)?\.com/(?:services|workflows|triggers)/([0-9A-Za-z+/_-]{20,})",
        true=(
            "https://hooks.slack.com/services/T" + upper(8) + "/B" + upper(8) + "/" + mixed(24),
            "https://hooks.slack.com/workflows/T" + upper(9) + "/" + digits(18) + "/" + mixed(24),
        ),
        false=("https://hooks.slack.com/services/",
               "https://hooks.slack.com/services/XXXXXXXXX/XXXXXXXXX/XXXXXXXXXXXXXX"),
        unless=r"[TBX0/x]*",
    ),
    Rule(
        "discord-token",
        START
        + r"((?:[MNO][DTjz][AEIMQUYcgk][w-z0-5]){2}[0-9A-Za-z_-]{14,20}"
        + r"\.[0-9A-Za-z_-]{6,7}\.[0-9A-Za-z_-]{27,45})",
        true=(_SNOWFLAKE + ".Gx4y2Z." + mixed(38), _SNOWFLAKE + ".Cl2FMQ." + mixed(27)),
        false=(_SNOWFLAKE, "NotificationServiceTestCases.helper.a_long_name_of_some_function"),
    ),
    Rule(
        "discord-webhook",
        r"discord(?:app)?\.com/api/(?:v[0-9]+/)?webhooks/[0-9]{16,20}/([0-9A-Za-z_-]{50,})",
        true=("https://discord.com/api/webhooks/" + digits(18) + "/" + mixed(68),
              "https://canary.discordapp.com/api/v10/webhooks/" + digits(19) + "/" + mixed(68)),
        false=("https://discord.com/api/webhooks/" + digits(18) + "/",),
    ),
    Rule(
        "telegram-token",
        START + r"((?:bot)?[0-9]{8,10}:AA[0-9A-Za-z_-]{33})",
        true=(digits(10) + ":AA" + mixed(33),
              "https://api.telegram.org/bot" + digits(9) + ":AA" + mixed(33) + "/getMe"),
        false=(digits(10) + ":AA" + mixed(10), digits(4) + ":AA" + mixed(33)),
    ),
    Rule(
        "teams-webhook",
        r"\.webhook\.office\.com/webhookb2/([0-9A-Za-z@/-]{60,})",
        true=("https://acme.webhook.office.com/webhookb2/" + _UUID + "@" + _UUID
              + "/IncomingWebhook/" + hexadecimal(32) + "/" + _UUID,),
        false=("https://acme.webhook.office.com/webhookb2/",),
    ),
)  # fmt: skip

_PAYMENT = (
    Rule(
        "stripe-key",
        START + r"((?:sk|rk)_(?:live|test|prod)_[0-9A-Za-z]{10,}|whsec_[0-9A-Za-z+/=_-]{24,})",
        true=("sk_live_" + mixed(24), "rk_test_" + mixed(99), "whsec_" + mixed(32)),
        false=("sk_live_...", "pk_live_" + mixed(24), "sk_test_key", "whsec_..."),
        unless=r"[a-z_]*[xX]*",
    ),
    Rule(
        "square-token",
        START + r"(sq0[a-z]{3}-[0-9A-Za-z_-]{22,}|EAAA[0-9A-Za-z_-]{60})\b",
        true=("sq0atp-" + mixed(22), "sq0csp-" + mixed(43), "EAAA" + mixed(60)),
        false=("sq0atp-", "sq0idp-" + mixed(8), "EAAA" + mixed(20)),
    ),
    Rule(
        "shopify-token",
        r"(shp(?:at|ca|pa|ss|ua|tka)_[0-9a-fA-F]{32})",
        true=("shpat_" + hexadecimal(32), "shpss_" + hexadecimal(32)),
        false=("shpat_" + hexadecimal(8),),
    ),
    Rule(
        "braintree-token",
        r"(access_token\$(?:production|sandbox)\$[0-9a-z]{16}\$[0-9a-f]{32})",
        true=("access_token$production$" + lower(16) + "$" + hexadecimal(32),),
        false=("access_token$production$",),
    ),
    Rule(
        "plaid-token",
        r"((?:access|public|link)-(?:sandbox|development|production)-[0-9a-f]{8}-[0-9a-f-]{27})",
        true=("access-production-" + _UUID,),
        false=("access-production-1",),
    ),
    Rule(
        "payment-key",
        r"(FLWSECK(?:_TEST)?-[0-9a-f]{32}-X|rzp_(?:live|test)_[0-9A-Za-z]{24,}"
        r"|EZ[AT]K[0-9A-Za-z]{54}|shippo_(?:live|test)_[0-9a-f]{40}"
        r"|duffel_(?:live|test)_[0-9A-Za-z_=-]{43})",
        true=("FLWSECK_TEST-" + hexadecimal(32) + "-X", "EZAK" + mixed(54),
              "shippo_live_" + hexadecimal(40), "duffel_test_" + mixed(43),
              "rzp_live_" + mixed(24)),
        false=("FLWSECK_TEST-x", "rzp_live_" + mixed(14), "shippo_live_x"),
    ),
)  # fmt: skip

_MAIL = (
    Rule(
        "twilio-key",
        START + r"(SK[0-9a-f]{32})\b",
        true=("SK" + hexadecimal(32),),
        false=("SK" + hexadecimal(31), "SK" + hexadecimal(33), "SK" + mixed(32)),
    ),
    Rule(
        "sendgrid-key",
        START + r"(SG\.[0-9A-Za-z_-]{16,32}\.[0-9A-Za-z_-]{32,64})",
        true=("SG." + mixed(22) + "." + mixed(43),),
        false=("SG.api.key", "SG." + mixed(22)),
    ),
    Rule(
        "mailgun-key",
        START + r"((?:pub)?key-[0-9a-f]{32}|[0-9a-f]{32}-[0-9a-f]{8}-[0-9a-f]{8})\b",
        true=("key-" + hexadecimal(32), hexadecimal(32) + "-" + "1f0e7a52" + "-" + "6c1d4b8e"),
        false=("key-" + hexadecimal(12), "monkey-" + hexadecimal(32), _UUID),
    ),
    Rule(
        "mailchimp-key",
        START + r"([0-9a-f]{32}-us[0-9]{1,2})\b",
        true=(hexadecimal(32) + "-us14",),
        false=(hexadecimal(32) + "-usa", hexadecimal(12) + "-us14"),
    ),
    Rule(
        "mail-service-key",
        START + r"(x(?:key|smtp)sib-[0-9a-f]{64}-[0-9A-Za-z]{16}|re_[0-9A-Za-z]{8}_[0-9A-Za-z]{24}"
        r"|mlsn\.[0-9a-f]{64})\b",
        true=("xkeysib-" + hexadecimal(64) + "-" + mixed(16), "re_" + mixed(8) + "_" + mixed(24),
              "mlsn." + hexadecimal(64)),
        false=("re_compile_x", "xkeysib-x", "re_" + mixed(8) + "_" + mixed(5)),
    ),
)  # fmt: skip

SERVICES: tuple[Rule, ...] = (*_MODELS, *_CHAT, *_PAYMENT, *_MAIL)
