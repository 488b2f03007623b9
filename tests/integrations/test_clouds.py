"""Helpers for AWS, Kubernetes and Terraform, with botocore, kubectl and terraform themselves."""

from __future__ import annotations

import http.server
import json
import os

from integrations.lab import Answer, Plug, certificate, packaged, server, tool
from support.world import World

ASK_BOTOCORE = """
import botocore.session
found = botocore.session.Session(profile="work").get_credentials().get_frozen_credentials()
print(found.access_key, found.secret_key, found.token)
"""


def test_botocore_has_its_keys(world: World) -> None:
    folder = packaged("botocore", world.user)
    plug = Plug(world, "keychain-auth-aws")
    world.write(".aws/config", "[profile work]\nregion = eu-west-1\ncredential_process = keychain-auth-aws work\n")
    code = world.write("ask.py", ASK_BOTOCORE)
    env = {"PYTHONPATH": folder, "AWS_EC2_METADATA_DISABLED": "true"}
    plug.grant("aws", "--read")
    plug.keep("aws", "work:access_key_id", "AKIDEXAMPLE")
    done = plug.run(world.installation.interpreter, code, env=env)
    assert done.returncode != 0
    assert "there is no work:secret_access_key in the service aws" in done.stderr  # botocore shows what was said
    assert "Next: keychain-auth set aws work:secret_access_key" in done.stderr
    plug.keep("aws", "work:secret_access_key", "s3cret")
    assert plug.run(world.installation.interpreter, code, env=env).stdout == "AKIDEXAMPLE s3cret None\n"
    plug.keep("aws", "work:session_token", "tok")
    plug.keep("aws", "work:expiration", "2099-01-01T00:00:00Z")
    assert plug.run(world.installation.interpreter, code, env=env).stdout == "AKIDEXAMPLE s3cret tok\n"


def test_the_answer_to_aws(world: World) -> None:
    plug = Plug(world, "keychain-auth-aws")
    plug.grant("aws")
    for name in ("access_key_id", "secret_access_key"):
        plug.keep("aws", f"default:{name}", name.upper())
    assert json.loads(plug.ask().stdout) == {
        "Version": 1, "AccessKeyId": "ACCESS_KEY_ID", "SecretAccessKey": "SECRET_ACCESS_KEY",
    }  # fmt: skip
    assert plug.ask("default", "more").returncode == 2
    done = plug.ask("other")
    assert (done.returncode, done.stdout) == (6, "")


KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: c
contexts: [{{name: c, context: {{cluster: c, user: u}}}}]
clusters: [{{name: c, cluster: {{server: "https://{address}", certificate-authority: "{authority}"}}}}]
users:
- name: u
  user:
    exec:
      apiVersion: client.authentication.k8s.io/v1
      command: keychain-auth-kubectl
      args: [prod]
      interactiveMode: Never
"""


def test_kubectl_has_its_token(world: World) -> None:
    kubectl = tool("kubectl", "the command line of Kubernetes")
    plug = Plug(world, "keychain-auth-kubectl")
    pem = certificate(world)

    def cluster(request: http.server.BaseHTTPRequestHandler, _: bytes) -> Answer:
        if request.headers.get("Authorization") != "Bearer tok":
            return 401, {"Content-Type": "application/json"}, b'{"kind":"Status","code":401}'
        return 200, {"Content-Type": "application/json"}, b'{"hello":"alice"}'

    with server(cluster, pem) as address:
        config = world.write("kube.yaml", KUBECONFIG.format(address=address, authority=pem))
        words = (kubectl, "--kubeconfig", config, "get", "--raw", "/hello")
        plug.register()
        done = plug.run(*words)
        assert done.returncode != 0
        assert f"Next: keychain-auth authorize {plug.path} kubernetes --read\n" in done.stderr
        plug.authorize("kubernetes", "--read")
        plug.keep("kubernetes", "prod:token", "tok")
        done = plug.run(*words)
        assert (done.returncode, done.stdout) == (0, '{"hello":"alice"}'), done.stderr


def test_the_answer_to_kubectl(world: World) -> None:
    plug = Plug(world, "keychain-auth-kubectl")
    plug.grant("kubernetes")
    assert plug.ask("prod").returncode == 6
    plug.keep("kubernetes", "prod:client_certificate", "CERT")
    done = plug.ask("prod")
    assert (done.returncode, "there is no prod:client_key" in done.stderr) == (6, True)
    plug.keep("kubernetes", "prod:client_key", "KEY")
    plug.keep("kubernetes", "prod:expiration", "2099-01-01T00:00:00Z")
    version = "client.authentication.k8s.io/v1beta1"
    answer = json.loads(plug.ask("prod", KUBERNETES_EXEC_INFO=json.dumps({"apiVersion": version})).stdout)
    assert answer == {
        "apiVersion": version, "kind": "ExecCredential",
        "status": {
            "clientCertificateData": "CERT", "clientKeyData": "KEY", "expirationTimestamp": "2099-01-01T00:00:00Z",
        },
    }  # fmt: skip
    for odd in ("client.authentication.k8s.io/v2", "[]", ""):
        info = odd if odd == "[]" else json.dumps({"apiVersion": odd})
        done = plug.ask("prod", KUBERNETES_EXEC_INFO=info)
        assert (done.returncode, done.stdout) == (1, "")


MAIN_TF = """
module "m" {{
  source  = "127.0.0.1:{port}/team/m/local"
  version = "1.0.0"
}}
"""


def test_terraform_has_its_token(world: World) -> None:
    terraform = tool("terraform", "the command line of Terraform")
    plug = Plug(world, "terraform-credentials-keychain-auth")
    plug.grant("terraform")
    pem = certificate(world)
    seen: list[str | None] = []

    def registry(request: http.server.BaseHTTPRequestHandler, _: bytes) -> Answer:
        if request.path == "/.well-known/terraform.json":
            return 200, {"Content-Type": "application/json"}, b'{"modules.v1":"/v1/modules/"}'
        seen.append(request.headers.get("Authorization"))
        return 404, {}, b""

    with server(registry, pem) as address:
        port = address.rpartition(":")[2]
        world.write(".terraformrc", 'credentials_helper "keychain-auth" {\n  args = []\n}\n')
        world.write(".terraform.d/plugins/README", "")
        os.symlink(plug.path, world.path(".terraform.d/plugins/terraform-credentials-keychain-auth"))
        world.write("tf/main.tf", MAIN_TF.format(port=port))
        host = address
        plug.keep("terraform", host, "tok")
        env = {"SSL_CERT_FILE": pem, "CHECKPOINT_DISABLE": "1"}
        done = plug.run(terraform, "init", "-no-color", cwd=world.path("tf"), env=env)
        assert seen, done.stdout + done.stderr
        assert set(seen) == {"Bearer tok"}
        done = plug.run(terraform, "logout", host, cwd=world.path("tf"), env=env)
        assert done.returncode == 0, done.stderr
        assert plug.kept("terraform", host) is None


def test_the_answer_to_terraform(world: World) -> None:
    plug = Plug(world, "terraform-credentials-keychain-auth")
    plug.grant("terraform")
    host = "app.example"
    assert (plug.ask("get", host).stdout, plug.ask("--some", "arg", "get", host).stdout) == ("{}\n", "{}\n")
    for odd in ('{"token":"never-said","more":1}', '{"token":1}', "never-said", "[]"):
        done = plug.ask("store", host, input=odd)
        assert (done.returncode, done.stdout) == (1, "")
        assert "never-said" not in done.stderr
    assert plug.ask("store", host, input='{"token":"tok"}').returncode == 0
    assert plug.ask("get", host).stdout == '{"token": "tok"}\n'
    assert plug.ask("forget", host).returncode == 0
    assert plug.ask("get", host).stdout == "{}\n"
    assert plug.ask("unheard-of", host).returncode == 2
