//! Calls every operation once with the AWS SDK for Rust, asserts what each answer means, and three errors by their types. The
//! server comes from the usual variables of the SDK; the first argument is the list of all operations, in which none may be missing.

use std::collections::BTreeSet;
use std::error::Error;
use std::io::Read;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_kms::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_kms::config::{BehaviorVersion, ConfigBag, Credentials, Intercept, Region, RuntimeComponents};
use aws_sdk_kms::error::{BoxError, ProvideErrorMetadata};
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::*;
use aws_sdk_kms::Client;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Collects the names of the operations that are really sent.
#[derive(Clone, Debug, Default)]
struct Called(Arc<Mutex<BTreeSet<String>>>);

impl Intercept for Called {
    fn name(&self) -> &'static str {
        "Called"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> std::result::Result<(), BoxError> {
        let target = context.request().headers().get("x-amz-target").unwrap_or_default();
        let operation = target.strip_prefix("TrentService.").unwrap_or(target);
        self.0.lock().unwrap().insert(operation.to_string());
        Ok(())
    }
}

fn client(region: &'static str, called: &Called) -> Client {
    let env = |name| std::env::var(name).expect(name);
    let credentials = Credentials::new(env("AWS_ACCESS_KEY_ID"), env("AWS_SECRET_ACCESS_KEY"), None, None, "environment");
    let config = aws_sdk_kms::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .endpoint_url(env("AWS_ENDPOINT_URL"))
        .region(Region::new(region))
        .credentials_provider(credentials)
        .interceptor(called.clone())
        .build();
    Client::from_conf(config)
}

fn random(size: usize) -> Blob {
    let mut octets = vec![0; size];
    std::fs::File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut octets)).expect("random octets");
    Blob::new(octets)
}

/// The service's error of a call that must fail.
macro_rules! fails {
    ($call:expr, $is:ident) => {{
        let error = $call.send().await.expect_err("a call that must fail").into_service_error();
        assert!(error.$is(), "{error:?}");
    }};
}

struct Run {
    kms: Client,
    away: Client,
}

impl Run {
    async fn open(&self, blob: Option<&Blob>) -> Result<Blob> {
        Ok(self.kms.decrypt().ciphertext_blob(blob.unwrap().clone()).send().await?.plaintext.unwrap())
    }

    async fn create(&self, spec: KeySpec, usage: KeyUsageType) -> Result<String> {
        Ok(self.kms.create_key().key_spec(spec).key_usage(usage).send().await?.key_metadata.unwrap().key_id)
    }

    async fn symmetric(&self) -> Result<KeyMetadata> {
        let kms = &self.kms;
        let key = kms.create_key().description("rust").send().await?.key_metadata.unwrap();
        let id = &key.key_id;
        assert_eq!(key.key_state, Some(KeyState::Enabled));
        kms.update_key_description().key_id(id).description("changed").send().await?;
        assert_eq!(kms.describe_key().key_id(id).send().await?.key_metadata.unwrap().description.unwrap(), "changed");
        let plaintext = random(100);
        let sealed = kms.encrypt().key_id(id).plaintext(plaintext.clone()).encryption_context("client", "rust").send().await?;
        let blob = sealed.ciphertext_blob.unwrap();
        let opened = kms.decrypt().ciphertext_blob(blob.clone()).encryption_context("client", "rust").send().await?;
        assert_eq!(opened.plaintext.unwrap(), plaintext);
        let other = kms.create_key().send().await?.key_metadata.unwrap().key_id;
        let moved = kms.re_encrypt().ciphertext_blob(blob).source_encryption_context("client", "rust").destination_key_id(other).send().await?;
        assert_eq!(self.open(moved.ciphertext_blob()).await?, plaintext);
        let data = kms.generate_data_key().key_id(id).key_spec(DataKeySpec::Aes256).send().await?;
        assert_eq!(&self.open(data.ciphertext_blob()).await?, data.plaintext().unwrap());
        let hidden = kms.generate_data_key_without_plaintext().key_id(id).number_of_bytes(24).send().await?;
        assert_eq!(self.open(hidden.ciphertext_blob()).await?.as_ref().len(), 24);
        let pair = kms.generate_data_key_pair().key_id(id).key_pair_spec(DataKeyPairSpec::EccNistP256).send().await?;
        assert_eq!(&self.open(pair.private_key_ciphertext_blob()).await?, pair.private_key_plaintext().unwrap());
        assert_eq!(pair.public_key().unwrap().as_ref().len(), 91);
        let half = kms.generate_data_key_pair_without_plaintext().key_id(id).key_pair_spec(DataKeyPairSpec::EccNistP384).send().await?;
        assert!(self.open(half.private_key_ciphertext_blob()).await?.as_ref().len() > 100);
        assert_eq!(kms.get_key_last_usage().key_id(id).send().await?.key_id(), Some(id.as_str()));
        Ok(key)
    }

    async fn around(&self, key: &KeyMetadata) -> Result<()> {
        let kms = &self.kms;
        let (id, alias) = (&key.key_id, "alias/rust");
        let root = format!("arn:aws:iam::{}:root", key.aws_account_id().unwrap());
        let other = kms.create_key().send().await?.key_metadata.unwrap().key_id;
        kms.create_alias().alias_name(alias).target_key_id(other).send().await?;
        kms.update_alias().alias_name(alias).target_key_id(id).send().await?;
        assert_eq!(kms.list_aliases().key_id(id).send().await?.aliases()[0].alias_name(), Some(alias));
        kms.delete_alias().alias_name(alias).send().await?;
        kms.tag_resource().key_id(id).tags(Tag::builder().tag_key("a").tag_value("b").build()?).send().await?;
        assert_eq!(kms.list_resource_tags().key_id(id).send().await?.tags()[0].tag_value, "b");
        kms.untag_resource().key_id(id).tag_keys("a").send().await?;
        let policy = kms.get_key_policy().key_id(id).send().await?.policy.unwrap();
        kms.put_key_policy().key_id(id).policy(policy).send().await?;
        assert_eq!(kms.list_key_policies().key_id(id).send().await?.policy_names(), ["default"]);
        let grant = || kms.create_grant().key_id(id).grantee_principal(&root).retiring_principal(&root).operations(GrantOperation::Encrypt).send();
        let (first, second) = (grant().await?, grant().await?);
        assert_eq!(kms.list_grants().key_id(id).send().await?.grants().len(), 2);
        assert_eq!(kms.list_retirable_grants().retiring_principal(&root).send().await?.grants().len(), 2);
        kms.retire_grant().grant_token(first.grant_token.unwrap()).send().await?;
        kms.revoke_grant().key_id(id).grant_id(second.grant_id.unwrap()).send().await?;
        kms.enable_key_rotation().key_id(id).rotation_period_in_days(100).send().await?;
        assert_eq!(kms.get_key_rotation_status().key_id(id).send().await?.rotation_period_in_days, Some(100));
        kms.disable_key_rotation().key_id(id).send().await?;
        assert_eq!(kms.rotate_key_on_demand().key_id(id).send().await?.key_id, key.arn);
        assert_eq!(kms.list_key_rotations().key_id(id).send().await?.rotations()[0].rotation_type, Some(RotationType::OnDemand));
        assert_eq!(kms.generate_random().number_of_bytes(33).send().await?.plaintext.unwrap().as_ref().len(), 33);
        assert!(kms.list_keys().send().await?.keys().iter().any(|k| k.key_arn == key.arn));
        Ok(())
    }

    async fn derive(&self, own: &str, peer: &str) -> Result<Blob> {
        let spki = self.kms.get_public_key().key_id(peer).send().await?.public_key.unwrap();
        let derived = self.kms.derive_shared_secret().key_id(own).key_agreement_algorithm(KeyAgreementAlgorithmSpec::Ecdh).public_key(spki);
        Ok(derived.send().await?.shared_secret.unwrap())
    }

    async fn asymmetric(&self) -> Result<()> {
        let kms = &self.kms;
        let signing = self.create(KeySpec::EccNistP256, KeyUsageType::SignVerify).await?;
        let (message, algorithm) = (random(200), SigningAlgorithmSpec::EcdsaSha256);
        let signature = kms.sign().key_id(&signing).message(message.clone()).signing_algorithm(algorithm.clone()).send().await?.signature.unwrap();
        let verify = |m: Blob| kms.verify().key_id(&signing).message(m).signature(signature.clone()).signing_algorithm(algorithm.clone());
        assert!(verify(message.clone()).send().await?.signature_valid);
        fails!(verify(random(200)), is_kms_invalid_signature_exception);

        let mac = self.create(KeySpec::Hmac384, KeyUsageType::GenerateVerifyMac).await?;
        let hmac = MacAlgorithmSpec::HmacSha384;
        let code = kms.generate_mac().key_id(&mac).message(message.clone()).mac_algorithm(hmac.clone()).send().await?.mac.unwrap();
        assert_eq!(code.as_ref().len(), 48);
        assert!(kms.verify_mac().key_id(&mac).message(message).mac(code).mac_algorithm(hmac).send().await?.mac_valid);

        let ann = self.create(KeySpec::EccNistP384, KeyUsageType::KeyAgreement).await?;
        let bob = self.create(KeySpec::EccNistP384, KeyUsageType::KeyAgreement).await?;
        assert_eq!(self.derive(&ann, &bob).await?, self.derive(&bob, &ann).await?);

        let kem = self.create(KeySpec::MlKem768, KeyUsageType::EncapsulateDecapsulate).await?;
        let made = kms.encapsulate().key_id(&kem).encapsulation_algorithm(EncapsulationAlgorithmSpec::MlKem).send().await?;
        let blob = made.shared_secret_ciphertext_blob.unwrap();
        let opened = kms.decapsulate().key_id(&kem).encapsulation_algorithm(EncapsulationAlgorithmSpec::MlKem).shared_secret_ciphertext_blob(blob);
        assert_eq!(opened.send().await?.shared_secret, made.shared_secret);
        Ok(())
    }

    async fn imported(&self) -> Result<()> {
        let kms = &self.kms;
        let id = kms.create_key().origin(OriginType::External).send().await?.key_metadata.unwrap().key_id;
        let ask = kms.get_parameters_for_import().key_id(&id);
        let given = ask.wrapping_algorithm(AlgorithmSpec::RsaesOaepSha256).wrapping_key_spec(WrappingKeySpec::Rsa2048).send().await?;
        let wrapped = wrap(given.public_key.unwrap().as_ref(), random(32).as_ref())?;
        let import = kms.import_key_material().key_id(&id).import_token(given.import_token.unwrap()).encrypted_key_material(Blob::new(wrapped));
        let done = import.expiration_model(ExpirationModelType::KeyMaterialDoesNotExpire).send().await?;
        assert_eq!(done.key_material_id.unwrap().len(), 64);
        let state = || async { kms.describe_key().key_id(&id).send().await.map(|d| d.key_metadata.unwrap().key_state.unwrap()) };
        assert_eq!(state().await?, KeyState::Enabled);
        kms.delete_imported_key_material().key_id(&id).send().await?;
        assert_eq!(state().await?, KeyState::PendingImport);
        Ok(())
    }

    async fn regions(&self) -> Result<()> {
        let id = self.kms.create_key().multi_region(true).send().await?.key_metadata.unwrap().key_id;
        let replica = self.kms.replicate_key().key_id(&id).replica_region("eu-west-1").send().await?.replica_key_metadata.unwrap();
        assert_eq!(kind(&replica), Some(&MultiRegionKeyType::Replica));
        enabled(&self.away, &id).await?;
        let plaintext = random(10);
        let blob = self.kms.encrypt().key_id(&id).plaintext(plaintext.clone()).send().await?.ciphertext_blob.unwrap();
        assert_eq!(self.away.decrypt().ciphertext_blob(blob).send().await?.plaintext.unwrap(), plaintext);
        self.kms.update_primary_region().key_id(&id).primary_region("eu-west-1").send().await?;
        assert_eq!(kind(&enabled(&self.away, &id).await?), Some(&MultiRegionKeyType::Primary));
        Ok(())
    }

    async fn states(&self, id: &str) -> Result<()> {
        let kms = &self.kms;
        kms.disable_key().key_id(id).send().await?;
        fails!(kms.encrypt().key_id(id).plaintext(random(1)), is_disabled_exception);
        kms.enable_key().key_id(id).send().await?;
        let plan = kms.schedule_key_deletion().key_id(id).pending_window_in_days(7).send().await?;
        assert_eq!((plan.key_state, plan.pending_window_in_days), (Some(KeyState::PendingDeletion), Some(7)));
        assert!(kms.cancel_key_deletion().key_id(id).send().await?.key_id.unwrap().ends_with(id));
        fails!(kms.describe_key().key_id("alias/none"), is_not_found_exception);
        Ok(())
    }

    async fn key_stores(&self) {
        let kms = &self.kms;
        let store = "cks-1234567890abcdef0";
        macro_rules! unsupported {
            ($($call:expr),*) => {$({
                let error = $call.send().await.expect_err("there are no custom key stores").into_service_error();
                assert_eq!(error.code(), Some("UnsupportedOperationException"), "{error:?}");
            })*};
        }
        unsupported!(
            kms.connect_custom_key_store().custom_key_store_id(store),
            kms.create_custom_key_store().custom_key_store_name("store"),
            kms.delete_custom_key_store().custom_key_store_id(store),
            kms.describe_custom_key_stores(),
            kms.disconnect_custom_key_store().custom_key_store_id(store),
            kms.update_custom_key_store().custom_key_store_id(store)
        );
    }
}

fn kind(key: &KeyMetadata) -> Option<&MultiRegionKeyType> {
    key.multi_region_configuration()?.multi_region_key_type()
}

/// Waits until a key is Enabled.
async fn enabled(client: &Client, id: &str) -> Result<KeyMetadata> {
    for _ in 0..300 {
        let key = client.describe_key().key_id(id).send().await?.key_metadata.unwrap();
        if key.key_state == Some(KeyState::Enabled) {
            return Ok(key);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(format!("{id} does not become Enabled").into())
}

/// Wraps key material with RSAES_OAEP_SHA_256, which the openssl command knows.
fn wrap(spki: &[u8], material: &[u8]) -> Result<Vec<u8>> {
    let folder = std::env::temp_dir().join(format!("keywright-client-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let (key, plain) = (folder.join("spki"), folder.join("material"));
    std::fs::write(&key, spki)?;
    std::fs::write(&plain, material)?;
    let mut openssl = Command::new("openssl");
    openssl.args(["pkeyutl", "-encrypt", "-pubin", "-keyform", "DER", "-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:sha256", "-inkey"]);
    let out = openssl.arg(&key).arg("-in").arg(&plain).output()?;
    std::fs::remove_dir_all(&folder)?;
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    Ok(out.stdout)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let called = Called::default();
    let run = Run { kms: client("us-east-1", &called), away: client("eu-west-1", &called) };
    let key = run.symmetric().await?;
    run.around(&key).await?;
    run.asymmetric().await?;
    run.imported().await?;
    run.regions().await?;
    run.states(&key.key_id).await?;
    run.key_stores().await;
    let path = std::env::args().nth(1).ok_or("the list of operations is missing")?;
    let all: BTreeSet<String> = std::fs::read_to_string(path)?.lines().map(str::to_string).collect();
    assert_eq!(*called.0.lock().unwrap(), all);
    println!("{} operations", all.len());
    Ok(())
}
