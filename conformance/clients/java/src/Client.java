import static software.amazon.awssdk.core.SdkBytes.fromByteArray;

import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.PublicKey;
import java.security.SecureRandom;
import java.security.Signature;
import java.security.spec.MGF1ParameterSpec;
import java.security.spec.X509EncodedKeySpec;
import java.time.Duration;
import java.time.Instant;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentSkipListSet;
import java.util.function.Supplier;
import javax.crypto.Cipher;
import javax.crypto.spec.OAEPParameterSpec;
import javax.crypto.spec.PSource;
import software.amazon.awssdk.core.SdkBytes;
import software.amazon.awssdk.core.interceptor.Context;
import software.amazon.awssdk.core.interceptor.ExecutionAttributes;
import software.amazon.awssdk.core.interceptor.ExecutionInterceptor;
import software.amazon.awssdk.core.interceptor.SdkExecutionAttribute;
import software.amazon.awssdk.http.urlconnection.UrlConnectionHttpClient;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.kms.KmsClient;
import software.amazon.awssdk.services.kms.model.*;
import software.amazon.awssdk.services.kms.model.UnsupportedOperationException;

/**
 * Calls every operation once with the AWS SDK for Java 2, asserts what each answer means, and three errors by their types. The server comes from the
 * usual variables of the SDK; the first argument is the list of all operations, in which none may be missing.
 */
public final class Client {
  private static final Set<String> CALLED = new ConcurrentSkipListSet<>();
  private static final SecureRandom RANDOM = new SecureRandom();

  private final KmsClient kms = client("us-east-1");
  private final KmsClient away = client("eu-west-1");

  private static KmsClient client(String region) {
    ExecutionInterceptor names = new ExecutionInterceptor() {
      @Override
      public void beforeExecution(Context.BeforeExecution context, ExecutionAttributes attributes) {
        CALLED.add(attributes.getAttribute(SdkExecutionAttribute.OPERATION_NAME));
      }
    };
    return KmsClient.builder().region(Region.of(region)).endpointOverride(URI.create(System.getenv("AWS_ENDPOINT_URL")))
        .httpClientBuilder(UrlConnectionHttpClient.builder()).overrideConfiguration(c -> c.addExecutionInterceptor(names)).build();
  }

  private static void check(boolean truth, String what) {
    if (!truth) {
      throw new AssertionError(what);
    }
  }

  private static SdkBytes random(int size) {
    byte[] octets = new byte[size];
    RANDOM.nextBytes(octets);
    return fromByteArray(octets);
  }

  private static <E extends KmsException> void fails(Class<E> type, Supplier<?> call) {
    try {
      call.get();
    } catch (KmsException e) {
      check(type.isInstance(e) && e.statusCode() == 400, e + " is not " + type);
      return;
    }
    throw new AssertionError("no " + type);
  }

  private static PublicKey publicKey(String algorithm, SdkBytes spki) throws Exception {
    return KeyFactory.getInstance(algorithm).generatePublic(new X509EncodedKeySpec(spki.asByteArray()));
  }

  private SdkBytes open(SdkBytes blob) {
    return kms.decrypt(r -> r.ciphertextBlob(blob)).plaintext();
  }

  private KeyMetadata symmetric() throws Exception {
    KeyMetadata key = kms.createKey(r -> r.description("java")).keyMetadata();
    String id = key.keyId();
    check(key.keyState() == KeyState.ENABLED, "state");
    kms.updateKeyDescription(r -> r.keyId(id).description("changed"));
    check(kms.describeKey(r -> r.keyId(id)).keyMetadata().description().equals("changed"), "description");
    SdkBytes plaintext = random(100);
    Map<String, String> context = Map.of("client", "java");
    SdkBytes blob = kms.encrypt(r -> r.keyId(id).plaintext(plaintext).encryptionContext(context)).ciphertextBlob();
    check(kms.decrypt(r -> r.ciphertextBlob(blob).encryptionContext(context)).plaintext().equals(plaintext), "Decrypt");
    String other = kms.createKey().keyMetadata().keyId();
    check(open(kms.reEncrypt(r -> r.ciphertextBlob(blob).sourceEncryptionContext(context).destinationKeyId(other)).ciphertextBlob()).equals(plaintext), "ReEncrypt");
    GenerateDataKeyResponse data = kms.generateDataKey(r -> r.keyId(id).keySpec(DataKeySpec.AES_256));
    check(open(data.ciphertextBlob()).equals(data.plaintext()), "GenerateDataKey");
    check(open(kms.generateDataKeyWithoutPlaintext(r -> r.keyId(id).numberOfBytes(24)).ciphertextBlob()).asByteArray().length == 24, "GenerateDataKeyWithoutPlaintext");
    GenerateDataKeyPairResponse pair = kms.generateDataKeyPair(r -> r.keyId(id).keyPairSpec(DataKeyPairSpec.ECC_NIST_P256));
    check(open(pair.privateKeyCiphertextBlob()).equals(pair.privateKeyPlaintext()), "GenerateDataKeyPair");
    check(publicKey("EC", pair.publicKey()).getAlgorithm().equals("EC"), "public key of a pair");
    GenerateDataKeyPairWithoutPlaintextResponse half = kms.generateDataKeyPairWithoutPlaintext(r -> r.keyId(id).keyPairSpec(DataKeyPairSpec.ECC_NIST_P384));
    check(open(half.privateKeyCiphertextBlob()).asByteArray().length > 100, "GenerateDataKeyPairWithoutPlaintext");
    check(kms.getKeyLastUsage(r -> r.keyId(id)).keyId().equals(id), "GetKeyLastUsage");
    return key;
  }

  private void around(KeyMetadata key) {
    String id = key.keyId();
    String alias = "alias/java";
    String root = "arn:aws:iam::" + key.awsAccountId() + ":root";
    String other = kms.createKey().keyMetadata().keyId();
    kms.createAlias(r -> r.aliasName(alias).targetKeyId(other));
    kms.updateAlias(r -> r.aliasName(alias).targetKeyId(id));
    check(kms.listAliases(r -> r.keyId(id)).aliases().get(0).aliasName().equals(alias), "ListAliases");
    kms.deleteAlias(r -> r.aliasName(alias));
    kms.tagResource(r -> r.keyId(id).tags(t -> t.tagKey("a").tagValue("b")));
    check(kms.listResourceTags(r -> r.keyId(id)).tags().get(0).tagValue().equals("b"), "ListResourceTags");
    kms.untagResource(r -> r.keyId(id).tagKeys("a"));
    String policy = kms.getKeyPolicy(r -> r.keyId(id)).policy();
    kms.putKeyPolicy(r -> r.keyId(id).policy(policy));
    check(kms.listKeyPolicies(r -> r.keyId(id)).policyNames().get(0).equals("default"), "ListKeyPolicies");
    Supplier<CreateGrantResponse> grant = () -> kms.createGrant(r -> r.keyId(id).granteePrincipal(root).retiringPrincipal(root).operations(GrantOperation.ENCRYPT));
    String token = grant.get().grantToken();
    String second = grant.get().grantId();
    check(kms.listGrants(r -> r.keyId(id)).grants().size() == 2, "ListGrants");
    check(kms.listRetirableGrants(r -> r.retiringPrincipal(root)).grants().size() == 2, "ListRetirableGrants");
    kms.retireGrant(r -> r.grantToken(token));
    kms.revokeGrant(r -> r.keyId(id).grantId(second));
    kms.enableKeyRotation(r -> r.keyId(id).rotationPeriodInDays(100));
    check(kms.getKeyRotationStatus(r -> r.keyId(id)).rotationPeriodInDays() == 100, "GetKeyRotationStatus");
    kms.disableKeyRotation(r -> r.keyId(id));
    check(kms.rotateKeyOnDemand(r -> r.keyId(id)).keyId().equals(key.arn()), "RotateKeyOnDemand");
    check(kms.listKeyRotations(r -> r.keyId(id)).rotations().get(0).rotationType() == RotationType.ON_DEMAND, "ListKeyRotations");
    check(kms.generateRandom(r -> r.numberOfBytes(33)).plaintext().asByteArray().length == 33, "GenerateRandom");
    check(kms.listKeys().keys().stream().anyMatch(k -> k.keyArn().equals(key.arn())), "ListKeys");
  }

  private String create(KeySpec spec, KeyUsageType usage) {
    return kms.createKey(r -> r.keySpec(spec).keyUsage(usage)).keyMetadata().keyId();
  }

  private SdkBytes derive(String own, String peer) {
    SdkBytes spki = kms.getPublicKey(r -> r.keyId(peer)).publicKey();
    return kms.deriveSharedSecret(r -> r.keyId(own).keyAgreementAlgorithm(KeyAgreementAlgorithmSpec.ECDH).publicKey(spki)).sharedSecret();
  }

  private void asymmetric() throws Exception {
    String signing = create(KeySpec.ECC_NIST_P256, KeyUsageType.SIGN_VERIFY);
    SdkBytes message = random(200);
    SdkBytes signature = kms.sign(r -> r.keyId(signing).message(message).signingAlgorithm(SigningAlgorithmSpec.ECDSA_SHA_256)).signature();
    Signature verifier = Signature.getInstance("SHA256withECDSA");
    verifier.initVerify(publicKey("EC", kms.getPublicKey(r -> r.keyId(signing)).publicKey()));
    verifier.update(message.asByteArray());
    check(verifier.verify(signature.asByteArray()), "Java verifies");
    check(kms.verify(r -> r.keyId(signing).message(message).signature(signature).signingAlgorithm(SigningAlgorithmSpec.ECDSA_SHA_256)).signatureValid(), "Verify");
    fails(KmsInvalidSignatureException.class, () -> kms.verify(r -> r.keyId(signing).message(random(200)).signature(signature).signingAlgorithm(SigningAlgorithmSpec.ECDSA_SHA_256)));

    String mac = create(KeySpec.HMAC_384, KeyUsageType.GENERATE_VERIFY_MAC);
    SdkBytes code = kms.generateMac(r -> r.keyId(mac).message(message).macAlgorithm(MacAlgorithmSpec.HMAC_SHA_384)).mac();
    check(code.asByteArray().length == 48, "GenerateMac");
    check(kms.verifyMac(r -> r.keyId(mac).message(message).mac(code).macAlgorithm(MacAlgorithmSpec.HMAC_SHA_384)).macValid(), "VerifyMac");

    String ann = create(KeySpec.ECC_NIST_P384, KeyUsageType.KEY_AGREEMENT);
    String bob = create(KeySpec.ECC_NIST_P384, KeyUsageType.KEY_AGREEMENT);
    check(derive(ann, bob).equals(derive(bob, ann)), "DeriveSharedSecret");

    String kem = create(KeySpec.ML_KEM_768, KeyUsageType.ENCAPSULATE_DECAPSULATE);
    EncapsulateResponse made = kms.encapsulate(r -> r.keyId(kem).encapsulationAlgorithm(EncapsulationAlgorithmSpec.ML_KEM));
    SdkBytes opened = kms.decapsulate(r -> r.keyId(kem).encapsulationAlgorithm(EncapsulationAlgorithmSpec.ML_KEM)
        .sharedSecretCiphertextBlob(made.sharedSecretCiphertextBlob())).sharedSecret();
    check(opened.equals(made.sharedSecret()), "Decapsulate");
  }

  private void imported() throws Exception {
    String id = kms.createKey(r -> r.origin(OriginType.EXTERNAL)).keyMetadata().keyId();
    GetParametersForImportResponse parameters = kms.getParametersForImport(
        r -> r.keyId(id).wrappingAlgorithm(AlgorithmSpec.RSAES_OAEP_SHA_256).wrappingKeySpec(WrappingKeySpec.RSA_2048));
    Cipher oaep = Cipher.getInstance("RSA/ECB/OAEPPadding");
    oaep.init(Cipher.ENCRYPT_MODE, publicKey("RSA", parameters.publicKey()),
        new OAEPParameterSpec("SHA-256", "MGF1", MGF1ParameterSpec.SHA256, PSource.PSpecified.DEFAULT));
    SdkBytes wrapped = fromByteArray(oaep.doFinal(random(32).asByteArray()));
    String material = kms.importKeyMaterial(r -> r.keyId(id).importToken(parameters.importToken()).encryptedKeyMaterial(wrapped)
        .expirationModel(ExpirationModelType.KEY_MATERIAL_DOES_NOT_EXPIRE)).keyMaterialId();
    check(material.matches("[0-9a-f]{64}"), "ImportKeyMaterial");
    check(kms.describeKey(r -> r.keyId(id)).keyMetadata().keyState() == KeyState.ENABLED, "imported");
    kms.deleteImportedKeyMaterial(r -> r.keyId(id));
    check(kms.describeKey(r -> r.keyId(id)).keyMetadata().keyState() == KeyState.PENDING_IMPORT, "deleted");
  }

  private static void enabled(KmsClient client, String id) throws Exception {
    for (int i = 0; i < 300; i++) {
      if (client.describeKey(r -> r.keyId(id)).keyMetadata().keyState() == KeyState.ENABLED) {
        return;
      }
      Thread.sleep(50);
    }
    throw new AssertionError(id + " does not become Enabled");
  }

  private void regions() throws Exception {
    String id = kms.createKey(r -> r.multiRegion(true)).keyMetadata().keyId();
    KeyMetadata replica = kms.replicateKey(r -> r.keyId(id).replicaRegion("eu-west-1")).replicaKeyMetadata();
    check(replica.multiRegionConfiguration().multiRegionKeyType() == MultiRegionKeyType.REPLICA, "ReplicateKey");
    enabled(away, id);
    SdkBytes plaintext = random(10);
    SdkBytes blob = kms.encrypt(r -> r.keyId(id).plaintext(plaintext)).ciphertextBlob();
    check(away.decrypt(r -> r.ciphertextBlob(blob)).plaintext().equals(plaintext), "Decrypt in another Region");
    kms.updatePrimaryRegion(r -> r.keyId(id).primaryRegion("eu-west-1"));
    enabled(away, id);
    check(away.describeKey(r -> r.keyId(id)).keyMetadata().multiRegionConfiguration().multiRegionKeyType() == MultiRegionKeyType.PRIMARY, "UpdatePrimaryRegion");
  }

  private void states(String id) {
    kms.disableKey(r -> r.keyId(id));
    fails(DisabledException.class, () -> kms.encrypt(r -> r.keyId(id).plaintext(random(1))));
    kms.enableKey(r -> r.keyId(id));
    Instant date = kms.scheduleKeyDeletion(r -> r.keyId(id).pendingWindowInDays(7)).deletionDate();
    check(Duration.between(Instant.now().plus(Duration.ofDays(7)), date).abs().toMinutes() < 10, "ScheduleKeyDeletion");
    check(kms.cancelKeyDeletion(r -> r.keyId(id)).keyId().endsWith(id), "CancelKeyDeletion");
    fails(NotFoundException.class, () -> kms.describeKey(r -> r.keyId("alias/none")));
  }

  private void keyStores() {
    String store = "cks-1234567890abcdef0";
    fails(UnsupportedOperationException.class, () -> kms.connectCustomKeyStore(r -> r.customKeyStoreId(store)));
    fails(UnsupportedOperationException.class, () -> kms.createCustomKeyStore(r -> r.customKeyStoreName("store")));
    fails(UnsupportedOperationException.class, () -> kms.deleteCustomKeyStore(r -> r.customKeyStoreId(store)));
    fails(UnsupportedOperationException.class, () -> kms.describeCustomKeyStores());
    fails(UnsupportedOperationException.class, () -> kms.disconnectCustomKeyStore(r -> r.customKeyStoreId(store)));
    fails(UnsupportedOperationException.class, () -> kms.updateCustomKeyStore(r -> r.customKeyStoreId(store)));
  }

  public static void main(String[] arguments) throws Exception {
    Client c = new Client();
    KeyMetadata key = c.symmetric();
    c.around(key);
    c.asymmetric();
    c.imported();
    c.regions();
    c.states(key.keyId());
    c.keyStores();
    Set<String> all = new TreeSet<>(Files.readAllLines(Path.of(arguments[0])));
    check(CALLED.equals(all), "called " + CALLED + ", not " + all);
    System.out.println(CALLED.size() + " operations");
  }
}
