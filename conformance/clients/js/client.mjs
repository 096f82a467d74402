// Every operation once, with the AWS SDK for JavaScript. What each answer means is asserted, and three errors by their types.
// The server comes from the usual variables of the SDK; the first argument is the list of all operations, in which none may be missing.
import assert from "node:assert/strict";
import { constants, createPublicKey, publicEncrypt, randomBytes, verify } from "node:crypto";
import { readFileSync } from "node:fs";
import { setTimeout } from "node:timers/promises";
import * as sdk from "@aws-sdk/client-kms";

const endpoint = process.env.AWS_ENDPOINT_URL;
const called = new Set();

function client(region) {
  const c = new sdk.KMSClient({ region, endpoint, maxAttempts: 1 });
  c.middlewareStack.add((next, context) => (args) => {
    called.add(context.commandName.replace(/Command$/, ""));
    return next(args);
  }, { step: "initialize" });
  return (operation, input = {}) => c.send(new sdk[`${operation}Command`](input));
}

const kms = client("us-east-1");
const away = client("eu-west-1");
const equal = (a, b) => assert.deepEqual(Buffer.from(a), Buffer.from(b));
const create = async (input) => (await kms("CreateKey", input)).KeyMetadata;
const fails = (type, promise) => assert.rejects(promise, (e) => e instanceof type && e.$metadata.httpStatusCode === 400);

async function symmetric() {
  const key = await create({ Description: "js" });
  const KeyId = key.KeyId;
  assert.equal(key.KeyState, "Enabled");
  await kms("UpdateKeyDescription", { KeyId, Description: "changed" });
  assert.equal((await kms("DescribeKey", { KeyId })).KeyMetadata.Description, "changed");
  const Plaintext = randomBytes(100);
  const EncryptionContext = { client: "js" };
  const { CiphertextBlob } = await kms("Encrypt", { KeyId, Plaintext, EncryptionContext });
  equal((await kms("Decrypt", { CiphertextBlob, EncryptionContext })).Plaintext, Plaintext);
  const other = await create();
  const moved = await kms("ReEncrypt", { CiphertextBlob, SourceEncryptionContext: EncryptionContext, DestinationKeyId: other.KeyId });
  equal((await kms("Decrypt", { CiphertextBlob: moved.CiphertextBlob })).Plaintext, Plaintext);
  const data = await kms("GenerateDataKey", { KeyId, KeySpec: "AES_256" });
  equal((await kms("Decrypt", { CiphertextBlob: data.CiphertextBlob })).Plaintext, data.Plaintext);
  const hidden = await kms("GenerateDataKeyWithoutPlaintext", { KeyId, NumberOfBytes: 24 });
  assert.equal((await kms("Decrypt", { CiphertextBlob: hidden.CiphertextBlob })).Plaintext.length, 24);
  const pair = await kms("GenerateDataKeyPair", { KeyId, KeyPairSpec: "ECC_NIST_P256" });
  equal((await kms("Decrypt", { CiphertextBlob: pair.PrivateKeyCiphertextBlob })).Plaintext, pair.PrivateKeyPlaintext);
  assert.equal(createPublicKey({ key: Buffer.from(pair.PublicKey), format: "der", type: "spki" }).asymmetricKeyType, "ec");
  const half = await kms("GenerateDataKeyPairWithoutPlaintext", { KeyId, KeyPairSpec: "ECC_NIST_P384" });
  assert.ok((await kms("Decrypt", { CiphertextBlob: half.PrivateKeyCiphertextBlob })).Plaintext.length > 100);
  assert.equal((await kms("GetKeyLastUsage", { KeyId })).KeyId, KeyId);
  return { KeyId, other: other.KeyId, arn: key.Arn, account: key.AWSAccountId };
}

async function around({ KeyId, other, arn, account }) {
  const AliasName = "alias/js";
  await kms("CreateAlias", { AliasName, TargetKeyId: other });
  await kms("UpdateAlias", { AliasName, TargetKeyId: KeyId });
  assert.deepEqual((await kms("ListAliases", { KeyId })).Aliases.map((a) => a.AliasName), [AliasName]);
  await kms("DeleteAlias", { AliasName });
  await kms("TagResource", { KeyId, Tags: [{ TagKey: "a", TagValue: "b" }] });
  assert.deepEqual((await kms("ListResourceTags", { KeyId })).Tags, [{ TagKey: "a", TagValue: "b" }]);
  await kms("UntagResource", { KeyId, TagKeys: ["a"] });
  const { Policy } = await kms("GetKeyPolicy", { KeyId });
  await kms("PutKeyPolicy", { KeyId, Policy });
  assert.deepEqual((await kms("ListKeyPolicies", { KeyId })).PolicyNames, ["default"]);
  const root = `arn:aws:iam::${account}:root`;
  const grant = () => kms("CreateGrant", { KeyId, GranteePrincipal: root, RetiringPrincipal: root, Operations: ["Encrypt"] });
  const first = await grant();
  const second = await grant();
  assert.equal((await kms("ListGrants", { KeyId })).Grants.length, 2);
  assert.equal((await kms("ListRetirableGrants", { RetiringPrincipal: root })).Grants.length, 2);
  await kms("RetireGrant", { GrantToken: first.GrantToken });
  await kms("RevokeGrant", { KeyId, GrantId: second.GrantId });
  await kms("EnableKeyRotation", { KeyId, RotationPeriodInDays: 100 });
  assert.equal((await kms("GetKeyRotationStatus", { KeyId })).RotationPeriodInDays, 100);
  await kms("DisableKeyRotation", { KeyId });
  assert.equal((await kms("RotateKeyOnDemand", { KeyId })).KeyId, arn);
  assert.equal((await kms("ListKeyRotations", { KeyId })).Rotations[0].RotationType, "ON_DEMAND");
  assert.equal((await kms("GenerateRandom", { NumberOfBytes: 33 })).Plaintext.length, 33);
  assert.ok((await kms("ListKeys")).Keys.some((k) => k.KeyArn === arn));
}

async function asymmetric() {
  const signing = (await create({ KeySpec: "ECC_NIST_P256", KeyUsage: "SIGN_VERIFY" })).KeyId;
  const SigningAlgorithm = "ECDSA_SHA_256";
  const Message = randomBytes(200);
  const { Signature } = await kms("Sign", { KeyId: signing, Message, SigningAlgorithm });
  const { PublicKey } = await kms("GetPublicKey", { KeyId: signing });
  assert.ok(verify("sha256", Message, createPublicKey({ key: Buffer.from(PublicKey), format: "der", type: "spki" }), Signature));
  assert.equal((await kms("Verify", { KeyId: signing, Message, Signature, SigningAlgorithm })).SignatureValid, true);
  await fails(sdk.KMSInvalidSignatureException, kms("Verify", { KeyId: signing, Message: randomBytes(200), Signature, SigningAlgorithm }));

  const mac = (await create({ KeySpec: "HMAC_384", KeyUsage: "GENERATE_VERIFY_MAC" })).KeyId;
  const { Mac } = await kms("GenerateMac", { KeyId: mac, Message, MacAlgorithm: "HMAC_SHA_384" });
  assert.equal(Mac.length, 48);
  assert.equal((await kms("VerifyMac", { KeyId: mac, Message, Mac, MacAlgorithm: "HMAC_SHA_384" })).MacValid, true);

  const [ann, bob] = await Promise.all([1, 2].map(() => create({ KeySpec: "ECC_NIST_P384", KeyUsage: "KEY_AGREEMENT" })));
  const derive = async (own, peer) => (await kms("DeriveSharedSecret", {
    KeyId: own.KeyId, KeyAgreementAlgorithm: "ECDH", PublicKey: (await kms("GetPublicKey", { KeyId: peer.KeyId })).PublicKey,
  })).SharedSecret;
  equal(await derive(ann, bob), await derive(bob, ann));

  const kem = (await create({ KeySpec: "ML_KEM_768", KeyUsage: "ENCAPSULATE_DECAPSULATE" })).KeyId;
  const EncapsulationAlgorithm = "ML_KEM";
  const made = await kms("Encapsulate", { KeyId: kem, EncapsulationAlgorithm });
  const opened = await kms("Decapsulate", { KeyId: kem, EncapsulationAlgorithm, SharedSecretCiphertextBlob: made.SharedSecretCiphertextBlob });
  equal(made.SharedSecret, opened.SharedSecret);
}

async function imported() {
  const { KeyId } = await create({ Origin: "EXTERNAL" });
  const parameters = await kms("GetParametersForImport", { KeyId, WrappingAlgorithm: "RSAES_OAEP_SHA_256", WrappingKeySpec: "RSA_2048" });
  const wrapping = { key: Buffer.from(parameters.PublicKey), format: "der", type: "spki" };
  const EncryptedKeyMaterial = publicEncrypt({ key: createPublicKey(wrapping), padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: "sha256" }, randomBytes(32));
  const { KeyMaterialId } = await kms("ImportKeyMaterial", {
    KeyId, ImportToken: parameters.ImportToken, EncryptedKeyMaterial, ExpirationModel: "KEY_MATERIAL_DOES_NOT_EXPIRE",
  });
  assert.match(KeyMaterialId, /^[0-9a-f]{64}$/);
  assert.equal((await kms("DescribeKey", { KeyId })).KeyMetadata.KeyState, "Enabled");
  await kms("DeleteImportedKeyMaterial", { KeyId });
  assert.equal((await kms("DescribeKey", { KeyId })).KeyMetadata.KeyState, "PendingImport");
}

async function enabled(send, KeyId) {
  for (let i = 0; i < 300; i++) {
    if ((await send("DescribeKey", { KeyId })).KeyMetadata.KeyState === "Enabled") return;
    await setTimeout(50);
  }
  assert.fail(`${KeyId} does not become Enabled`);
}

async function regions() {
  const { KeyId } = await create({ MultiRegion: true });
  const replica = (await kms("ReplicateKey", { KeyId, ReplicaRegion: "eu-west-1" })).ReplicaKeyMetadata;
  assert.equal(replica.MultiRegionConfiguration.MultiRegionKeyType, "REPLICA");
  await enabled(away, KeyId);
  const Plaintext = randomBytes(10);
  const { CiphertextBlob } = await kms("Encrypt", { KeyId, Plaintext });
  equal((await away("Decrypt", { CiphertextBlob })).Plaintext, Plaintext);
  await kms("UpdatePrimaryRegion", { KeyId, PrimaryRegion: "eu-west-1" });
  await enabled(away, KeyId);
  assert.equal((await away("DescribeKey", { KeyId })).KeyMetadata.MultiRegionConfiguration.MultiRegionKeyType, "PRIMARY");
}

async function states({ KeyId }) {
  await kms("DisableKey", { KeyId });
  await fails(sdk.DisabledException, kms("Encrypt", { KeyId, Plaintext: randomBytes(1) }));
  await kms("EnableKey", { KeyId });
  const { DeletionDate } = await kms("ScheduleKeyDeletion", { KeyId, PendingWindowInDays: 7 });
  assert.ok(Math.abs(DeletionDate - Date.now() - 7 * 86400e3) < 600e3);
  assert.equal((await kms("CancelKeyDeletion", { KeyId })).KeyId.split("/")[1], KeyId);
  await fails(sdk.NotFoundException, kms("DescribeKey", { KeyId: "alias/none" }));
}

async function keyStores() {
  const CustomKeyStoreId = "cks-1234567890abcdef0";
  for (const operation of ["ConnectCustomKeyStore", "DeleteCustomKeyStore", "DescribeCustomKeyStores", "DisconnectCustomKeyStore", "UpdateCustomKeyStore"]) {
    await fails(sdk.UnsupportedOperationException, kms(operation, { CustomKeyStoreId }));
  }
  await fails(sdk.UnsupportedOperationException, kms("CreateCustomKeyStore", { CustomKeyStoreName: "store" }));
}

const key = await symmetric();
await around(key);
await asymmetric();
await imported();
await regions();
await states(key);
await keyStores();
const all = readFileSync(process.argv[2], "utf8").trim().split("\n");
assert.deepEqual([...called].sort(), all.sort());
console.log(`${called.size} operations`);
