"""template.yaml, as CloudFormation will see it, agrees with the code and with the rules of AWS.

Runs offline: the SAM transform is a library.

    python -m unittest discover -s tests/template
"""

import functools
import json
import os
import pathlib
import re
import tomllib
import unittest

from samcli.yamlhelper import yaml_parse
from samtranslator.translator.transform import transform

os.environ.setdefault("AWS_DEFAULT_REGION", "eu-west-1")  # The transform asks for one; it calls nobody.

ROOT = pathlib.Path(__file__).resolve().parents[2]
STACK = "okra-sync"
PSEUDO = {
    "AWS::StackName": STACK,
    "AWS::Region": "eu-west-1",
    "AWS::Partition": "aws",
    "AWS::AccountId": "123456789012",
}

# What the functions read, besides what Lambda itself and the SDK define.
VARIABLES = {
    "TABLE_NAME",
    "FETCH_QUEUE_URL",
    "PRIORITY_QUEUE_URL",
    "DELIVER_QUEUE_URL",
    "EVENT_BUS_ARN",
    "DELIVER_CONCURRENCY",
    "OKRA_VAULT_KEY",
    "PUBLIC_URL",
    "RULE_PREFIX",
    "RUST_LOG",
}
# Read by the code, but set by Lambda, by the local process's user, or by a test.
ELSEWHERE = re.compile(r"AWS_.*|OKRA_(PORT|DATA|BANKS|TEST_.*|(DYNAMODB|SQS)_ENDPOINT)|CARGO_.*|HOME")

FUNCTIONS = {"Fetch": "fetch", "Deliver": "deliver", "Api": "api"}
QUEUES = {"FetchQueue": "Fetch", "PriorityQueue": "Fetch", "DeliverQueue": "Deliver"}


class NoManagedPolicies:
    """A managed policy grants far more than a function needs: none is known, so none can be used."""

    @staticmethod
    def load():
        return {}


@functools.cache
def sam():
    return yaml_parse((ROOT / "template.yaml").read_text())


@functools.cache
def resources():
    template = yaml_parse((ROOT / "template.yaml").read_text())
    for name in FUNCTIONS:
        template["Resources"][name]["Properties"]["CodeUri"] = f"s3://bucket/{name}"
    parameters = {name: "x" for name in template["Parameters"]} | PSEUDO
    parameters |= {
        name: definition["Default"] for name, definition in template["Parameters"].items() if "Default" in definition
    }
    return transform(template, parameters, NoManagedPolicies)["Resources"]


def of_type(kind):
    return {name: r["Properties"] for name, r in resources().items() if r["Type"] == kind}


def text(value):
    """A string, with the pseudo parameters of a `!Sub` filled in and other references left in braces."""
    if isinstance(value, str):
        return value
    if "Ref" in value:
        return PSEUDO.get(value["Ref"], f"${{{value['Ref']}}}")
    if "Fn::GetAtt" in value:
        attribute = value["Fn::GetAtt"]
        return "${%s}" % (attribute if isinstance(attribute, str) else ".".join(attribute))
    return re.sub(r"\$\{(AWS::\w+)}", lambda match: PSEUDO[match[1]], value["Fn::Sub"])


def listed(value):
    return value if isinstance(value, list) else [value]


def rust(*folders):
    """The Rust sources below some folders of the project, without their test modules."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.rs")):
            if "tests" not in path.relative_to(ROOT).parts:
                yield path, path.read_text().split("#[cfg(test)]\nmod tests")[0]


def transformed(rule, event):
    """What EventBridge hands to the target of a rule: each `<name>` becomes a JSON value."""
    [target] = rule["Targets"]
    transformer = target["InputTransformer"]

    def value(match):
        path = transformer["InputPathsMap"][match[1]]
        return json.dumps(event[path.removeprefix("$.")])

    return json.loads(re.sub(r"<(\w+)>", value, transformer["InputTemplate"]))


EVENT = {"time": "2026-11-24T13:00:00Z", "source": "aws.events", "detail-type": "Scheduled Event", "detail": {}}


class Rules(unittest.TestCase):
    def setUp(self):
        source = (ROOT / "shared/core/src/model/interval.rs").read_text()
        self.intervals = re.findall(r'Self::\w+ => "(\w+)"', source)
        self.rules = {text(rule["Name"]): rule for rule in of_type("AWS::Events::Rule").values()}

    def test_every_interval_has_its_rule_and_no_rule_is_left_over(self):
        self.assertEqual(len(self.intervals), 8)
        expected = {f"{STACK}-{interval.replace('_', '-')}" for interval in self.intervals}
        self.assertEqual(set(self.rules), expected | {f"{STACK}-sweep"})

    def test_the_code_names_rules_as_the_template_does(self):
        source = (ROOT / "shared/aws/src/tick_rules.rs").read_text()
        self.assertIn("""format!("{}-{}", self.prefix, interval.as_str().replace('_', "-"))""", source)

    def test_rates_fire_every_minute_and_are_grammatical(self):
        for name, rule in self.rules.items():
            with self.subTest(name):
                rate = re.fullmatch(r"rate\((\d+) (minute|hour|day)(s?)\)", rule["ScheduleExpression"])
                self.assertEqual(rate[3] == "", rate[1] == "1", "singular for 1, plural for more")
                self.assertEqual(rate[0], "rate(1 minute)")

    def test_an_update_leaves_no_rule_switched_off(self):
        for name, rule in self.rules.items():
            self.assertEqual(rule["State"], "ENABLED", name)

    def test_ticks_and_sweeps_are_what_the_functions_parse(self):
        for interval in self.intervals:
            rule = self.rules[f"{STACK}-{interval.replace('_', '-')}"]
            self.assertEqual(transformed(rule, EVENT), {"interval": interval, "at": EVENT["time"]})
        self.assertEqual(transformed(self.rules[f"{STACK}-sweep"], EVENT), {"sweep": EVENT["time"]})

    def test_every_rule_may_call_its_function_and_nobody_else_may(self):
        rules = of_type("AWS::Events::Rule")
        permitted = {
            text(p["SourceArn"]): p["FunctionName"]["Ref"]
            for p in of_type("AWS::Lambda::Permission").values()
            if p["Principal"] == "events.amazonaws.com"
        }
        called = {f"${{{name}.Arn}}": rule["Targets"][0]["Arn"]["Fn::GetAtt"][0] for name, rule in rules.items()}
        self.assertEqual(permitted, called)


class Queues(unittest.TestCase):
    def setUp(self):
        self.queues = of_type("AWS::SQS::Queue")
        self.functions = of_type("AWS::Lambda::Function")
        self.mappings = of_type("AWS::Lambda::EventSourceMapping")

    def test_a_message_outlasts_its_function_and_a_dead_letter_its_source(self):
        for name, function in QUEUES.items():
            with self.subTest(name):
                queue = self.queues[name]
                self.assertGreaterEqual(queue["VisibilityTimeout"], 6 * self.functions[function]["Timeout"])
                self.assertGreaterEqual(queue["RedrivePolicy"]["maxReceiveCount"], 5)
                dead = self.queues[queue["RedrivePolicy"]["deadLetterTargetArn"]["Fn::GetAtt"][0]]
                self.assertEqual(dead["MessageRetentionPeriod"], 14 * 86400)
                self.assertGreater(dead["MessageRetentionPeriod"], queue["MessageRetentionPeriod"])

    def test_queues_are_encrypted(self):
        for name, queue in self.queues.items():
            self.assertIs(queue["SqsManagedSseEnabled"], True, name)

    def test_every_queue_is_worked_off_with_partial_batches_and_a_ceiling(self):
        mapped = {m["EventSourceArn"]["Fn::GetAtt"][0]: m for m in self.mappings.values()}
        self.assertEqual({name: m["FunctionName"]["Ref"] for name, m in mapped.items()}, QUEUES)
        for name, mapping in mapped.items():
            with self.subTest(name):
                # Without it a batch with failures counts as done, and its messages are lost.
                self.assertEqual(mapping["FunctionResponseTypes"], ["ReportBatchItemFailures"])
                self.assertIn("MaximumConcurrency", mapping["ScalingConfig"])
                self.assertEqual(mapping.get("MaximumBatchingWindowInSeconds", 0), 0)
                self.assertEqual(mapping["BatchSize"], 10 if name == "DeliverQueue" else 1)

    def test_failed_ticks_and_sweeps_are_kept(self):
        kept = {
            config["FunctionName"]["Ref"]: config["DestinationConfig"]["OnFailure"]["Destination"]["Fn::GetAtt"][0]
            for config in of_type("AWS::Lambda::EventInvokeConfig").values()
        }
        self.assertEqual(kept, {"Fetch": "ScheduleDeadLetters", "Deliver": "ScheduleDeadLetters"})

    def test_every_dead_letter_and_every_old_message_rings(self):
        watched = {
            (alarm["MetricName"], dimension["Value"]["Fn::GetAtt"][0])
            for alarm in of_type("AWS::CloudWatch::Alarm").values()
            for dimension in alarm.get("Dimensions", [])
            if alarm["Namespace"] == "AWS/SQS"
        }
        dead = {("ApproximateNumberOfMessagesVisible", q) for q in self.queues if q.endswith("DeadLetters")}
        old = {("ApproximateAgeOfOldestMessage", q) for q in QUEUES}
        self.assertEqual(watched, dead | old)


class Functions(unittest.TestCase):
    def setUp(self):
        self.functions = of_type("AWS::Lambda::Function")

    def test_each_function_is_one_crate_with_one_binary(self):
        for name, binary in FUNCTIONS.items():
            with self.subTest(name):
                source = sam()["Resources"][name]
                self.assertEqual(source["Metadata"]["BuildMethod"], "rust-cargolambda")
                self.assertEqual(source["Properties"]["CodeUri"], f"functions/{binary}")
                manifest = tomllib.loads((ROOT / "functions" / binary / "Cargo.toml").read_text())
                self.assertEqual(manifest["package"]["name"], f"okra-function-{binary}")
                self.assertEqual([b["name"] for b in manifest["bin"]], [binary])

    def test_the_template_sets_what_the_functions_read(self):
        for name, function in self.functions.items():
            # The SDK's own variable, unset except under `sam local`.
            self.assertEqual(set(function["Environment"]["Variables"]) - {"AWS_ENDPOINT_URL"}, VARIABLES, name)

    def test_the_functions_read_what_the_template_sets(self):
        read = set()
        name = re.compile(r'(?:\bvar|_variable|_url|_endpoint|\bvars)\(\s*"([A-Z][A-Z0-9_]+)"')
        constant = re.compile(r'const \w+: &str = "((?:OKRA|PUBLIC|TABLE|RULE)_[A-Z0-9_]+)"')
        for _, source in rust("functions", "shared"):
            read |= set(name.findall(source)) | set(constant.findall(source))
            if "try_from_default_env" in source:
                read.add("RUST_LOG")
        self.assertEqual({variable for variable in read if not ELSEWHERE.fullmatch(variable)}, VARIABLES)

    def test_logs_are_kept_for_a_while_only(self):
        groups = of_type("AWS::Logs::LogGroup")
        for name, function in self.functions.items():
            self.assertEqual(function["LoggingConfig"]["LogFormat"], "JSON", name)
            self.assertIn("RetentionInDays", groups[function["LoggingConfig"]["LogGroup"]["Ref"]], name)

    def test_the_vaults_key_is_not_shown(self):
        self.assertIs(sam()["Parameters"]["VaultKey"]["NoEcho"], True)
        self.assertNotIn("Default", sam()["Parameters"]["VaultKey"])


class Permissions(unittest.TestCase):
    def setUp(self):
        self.roles = of_type("AWS::IAM::Role")
        self.statements = {
            name: [s for policy in role["Policies"] for s in policy["PolicyDocument"]["Statement"]]
            for name, role in self.roles.items()
        }
        for policy in of_type("AWS::IAM::RolePolicy").values():
            self.statements[policy["RoleName"]["Ref"]] += policy["PolicyDocument"]["Statement"]

    def granted(self, role):
        return {
            (action, text(resource))
            for statement in self.statements[role]
            for action in listed(statement["Action"])
            for resource in listed(statement["Resource"])
        }

    def test_each_function_has_a_role_of_its_own_and_nothing_more(self):
        functions = of_type("AWS::Lambda::Function")
        self.assertEqual({f["Role"]["Fn::GetAtt"][0] for f in functions.values()}, set(self.roles))
        self.assertEqual(len(functions), len(self.roles))
        for name, role in self.roles.items():
            self.assertNotIn("ManagedPolicyArns", role, name)

    def test_actions_and_resources_are_named(self):
        for role in self.roles:
            for action, resource in self.granted(role):
                self.assertNotIn("*", action, role)
                self.assertNotIn("*", resource, role)
            for statement in self.statements[role]:
                self.assertEqual(statement["Effect"], "Allow", role)

    def test_rules_may_be_switched_by_name(self):
        rules = {
            f"arn:aws:events:eu-west-1:123456789012:rule/{text(rule['Name'])}"
            for rule in of_type("AWS::Events::Rule").values()
            if not text(rule["Name"]).endswith("-sweep")
        }
        for role, actions in {"FetchRole": {"DisableRule", "EnableRule"}, "ApiRole": {"EnableRule"}}.items():
            granted = {(a, r) for a, r in self.granted(role) if a.startswith("events:")}
            self.assertEqual(granted, {(f"events:{action}", rule) for action in actions for rule in rules})
        granted = {(a, r) for a, r in self.granted("DeliverRole") if a.startswith("events:")}
        self.assertEqual(granted, {("events:PutEvents", "${EventBusArn}")})

    def test_events_may_be_put_where_there_is_a_bus_and_nowhere_else(self):
        template = yaml_parse((ROOT / "template.yaml").read_text())["Resources"]
        policies = [r for r in template.values() if "events:PutEvents" in json.dumps(r, default=str)]
        self.assertEqual([p["Condition"] for p in policies], ["HasEventBus"])

    def test_every_call_the_code_makes_is_granted(self):
        """And nothing is granted that no code calls. Tables and queues are made by the template."""
        calls = {
            "dynamodb": "batch_get_item|batch_write_item|delete_item|get_item|put_item|query|scan|update_item",
            "sqs": "send_message|send_message_batch|receive_message|delete_message|delete_message_batch",
            "events": "enable_rule|disable_rule|describe_rule|put_events|put_rule",
        }
        crates = {"dynamodb": "store", "sqs": "queue", "events": "aws"}
        called = set()
        for service, names in calls.items():
            for _, source in rust(f"shared/{crates[service]}/src"):
                for call in re.findall(rf"\.({names})\(\)", source):
                    action = "".join(word.capitalize() for word in call.removesuffix("_batch").split("_"))
                    called.add(f"{service}:{action}")
                if re.search(r"TransactWriteItem|transact_write_items", source):
                    called |= {f"dynamodb:{a}Item" for a in ("ConditionCheck", "Delete", "Put", "Update")}
        # The event source mapping calls these with the function's role.
        called |= {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"}
        called |= {"logs:CreateLogStream", "logs:PutLogEvents"}
        granted = {action for role in self.roles for action, _ in self.granted(role)}
        self.assertEqual(granted, called)

    def test_a_function_reads_its_own_queues_only(self):
        for queue, function in QUEUES.items():
            readers = {role for role in self.roles if ("sqs:ReceiveMessage", f"${{{queue}.Arn}}") in self.granted(role)}
            self.assertEqual(readers, {f"{function}Role"}, queue)


class Table(unittest.TestCase):
    def setUp(self):
        self.resource = resources()["Table"]
        self.table = self.resource["Properties"]

    def test_keys_are_those_of_the_store(self):
        source = (ROOT / "shared/store/src/table/attributes.rs").read_text()
        names = dict(re.findall(r'const (PK|SK|TTL_ATTRIBUTE): &str = "(\w+)"', source))
        self.assertEqual(
            self.table["KeySchema"],
            [
                {"AttributeName": names["PK"], "KeyType": "HASH"},
                {"AttributeName": names["SK"], "KeyType": "RANGE"},
            ],
        )
        self.assertEqual(
            {a["AttributeName"]: a["AttributeType"] for a in self.table["AttributeDefinitions"]},
            {names["PK"]: "S", names["SK"]: "S"},
        )
        self.assertEqual(self.table["TimeToLiveSpecification"], {"AttributeName": names["TTL_ATTRIBUTE"], "Enabled": True})

    def test_the_table_scales_to_zero_without_indexes_or_streams(self):
        self.assertEqual(self.table["BillingMode"], "PAY_PER_REQUEST")
        self.assertNotIn("GlobalSecondaryIndexes", self.table)
        self.assertNotIn("StreamSpecification", self.table)

    def test_data_survives_the_stack_and_a_mistake(self):
        self.assertEqual(self.resource["DeletionPolicy"], "Retain")
        self.assertEqual(self.resource["UpdateReplacePolicy"], "Retain")
        self.assertIs(self.table["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"], True)


class Api(unittest.TestCase):
    def test_every_path_reaches_the_api_in_payload_form_2(self):
        [(integration, properties)] = of_type("AWS::ApiGatewayV2::Integration").items()
        self.assertTrue(text(properties["IntegrationUri"]).endswith("/functions/${Api.Arn}/invocations"))
        self.assertEqual(properties["PayloadFormatVersion"], "2.0")
        [route] = of_type("AWS::ApiGatewayV2::Route").values()
        self.assertEqual(route["RouteKey"], "$default")
        self.assertEqual(text(route["Target"]), f"integrations/${{{integration}}}")

    def test_sam_local_finds_the_routes(self):
        """It looks for routes of the kind of the first API or function it meets."""
        kinds = [r["Type"] for r in sam()["Resources"].values()]
        self.assertLess(kinds.index("AWS::ApiGatewayV2::Api"), kinds.index("AWS::Serverless::Function"))

    def test_the_gateway_waits_as_long_as_the_function_may_take(self):
        [integration] = of_type("AWS::ApiGatewayV2::Integration").values()
        self.assertEqual(integration["TimeoutInMillis"], 1000 * of_type("AWS::Lambda::Function")["Api"]["Timeout"])


class Metrics(unittest.TestCase):
    """Metrics are taken from log lines, so a line that is reworded would silence its alarm."""

    def test_each_line_and_field_is_logged_by_the_code(self):
        sources = [source for _, source in rust("shared")]
        filters = of_type("AWS::Logs::MetricFilter")
        self.assertTrue(filters)
        for name, properties in filters.items():
            [line] = re.findall(r'fields\.message = "([^"]+)"', properties["FilterPattern"])
            [transformation] = properties["MetricTransformations"]
            value = transformation["MetricValue"]
            calls = [
                call
                for source in sources
                for call in re.findall(r"tracing::\w+!\((.*?)\);", source, re.DOTALL)
                if f'"{line}"' in call
            ]
            self.assertEqual(len(calls), 1, f"{name}: {line}")
            if value != "1":
                self.assertIn(value.removeprefix("$.fields.") + " =", calls[0], name)

    def test_each_metric_has_its_alarm_and_each_alarm_its_metric(self):
        filters = of_type("AWS::Logs::MetricFilter").values()
        made = {p["MetricTransformations"][0]["MetricName"] for p in filters}
        alarms = of_type("AWS::CloudWatch::Alarm").values()
        watched = {p["MetricName"] for p in alarms if text(p["Namespace"]) == STACK}
        self.assertEqual(made, watched)


class Events(unittest.TestCase):
    """The sample events have the shape that the template's resources produce."""

    @staticmethod
    def event(name):
        return json.loads((ROOT / "tests/events" / f"{name}.json").read_text())

    def test_scheduled_events(self):
        rules = of_type("AWS::Events::Rule")
        tick, sweep = self.event("tick"), self.event("sweep")
        self.assertEqual(tick, transformed(rules["OneMinuteRule"], {"time": tick["at"]}))
        self.assertEqual(sweep, transformed(rules["SweepRule"], {"time": sweep["sweep"]}))

    def test_api_events_are_payload_form_2(self):
        for path in sorted((ROOT / "tests/events").glob("api-*.json")):
            event = json.loads(path.read_text())
            self.assertEqual(event["version"], "2.0", path.name)
            self.assertEqual(event["rawPath"], event["requestContext"]["http"]["path"], path.name)
            if "body" in event:
                self.assertEqual(int(event["headers"]["content-length"]), len(event["body"]), path.name)


if __name__ == "__main__":
    unittest.main()
